//! Small pictures of large ones. Pure functions: what runs them, and how many at once, is [`super::Pictures`]' business.

use std::io::Cursor;

use fast_image_resize::{ResizeOptions, Resizer};
use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits,
    codecs::{
        jpeg::JpegEncoder,
        png::{CompressionType, FilterType, PngEncoder},
    },
};

use super::{PictureError, jpeg};

/// The largest file that a thumbnail is made of, in bytes.
pub const MAX_SOURCE_BYTES: u64 = 32 * 1024 * 1024;

/// The most pixels that a picture may have: a camera's, not a bomb's.
pub const MAX_PIXELS: u64 = 50_000_000;

/// The most pixels of a side.
pub const MAX_SIDE: u32 = 32_768;

/// The most bytes of a picture's pixels once it is decoded: 50 million of four bytes each, half as many of eight.
const MAX_DECODED_BYTES: u64 = MAX_PIXELS * 4;

/// The side of a small thumbnail, in pixels.
pub const THUMB_SIDE: u32 = 60;

/// The side of a large one.
pub const MEDIUM_SIDE: u32 = 400;

const JPEG_QUALITY: u8 = 85;

/// The formats that are read.
const FORMATS: [ImageFormat; 4] = [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Gif, ImageFormat::WebP];

/// A picture that was made here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thumbnail {
    /// The picture's file.
    pub bytes: Vec<u8>,
    /// `image/png` where it is transparent somewhere, else `image/jpeg`.
    pub mime: &'static str,
}

/// Width and height in pixels, as the file stores them (before any rotation that its EXIF data asks for). `head` may be
/// the first part of a file, as long as that holds what comes before the pixels.
pub fn dimensions(head: &[u8]) -> Result<(u32, u32), PictureError> {
    let dimensions = decoder(head)?.dimensions();
    check(dimensions)?;
    Ok(dimensions)
}

/// The middle square of a picture, scaled to `side` pixels a side and upright as its EXIF data says; of an animation the
/// first picture. Takes time and memory in proportion to the pixels, which are checked first.
pub fn thumbnail(file: &[u8], side: u32) -> Result<Thumbnail, PictureError> {
    let mut decoder = decoder(file)?;
    check(decoder.dimensions())?;
    if decoder.total_bytes() > MAX_DECODED_BYTES {
        return Err(PictureError::TooManyPixels);
    }
    if file.starts_with(&jpeg::START) && !jpeg::is_whole(file) {
        return Err(PictureError::Broken);
    }
    let mut limits = Limits::no_limits();
    // The decoder's own buffers beside the pixels.
    limits.max_alloc = Some(2 * MAX_DECODED_BYTES);
    decoder.set_limits(limits)?;
    let orientation = decoder.orientation()?;
    let picture = DynamicImage::from_decoder(decoder)?;

    let mut small = DynamicImage::new(side, side, picture.color());
    // The middle square of a picture stays the middle square however it is turned, so it is turned when it is small.
    Resizer::new()
        .resize(&picture, &mut small, &ResizeOptions::new().fit_into_destination(None))
        .map_err(|_| PictureError::NotSupported)?;
    drop(picture);
    small.apply_orientation(orientation);
    encode(&small)
}

fn decoder(file: &[u8]) -> Result<impl ImageDecoder + use<'_>, PictureError> {
    let reader = ImageReader::new(Cursor::new(file)).with_guessed_format().map_err(|_| PictureError::NotSupported)?;
    match reader.format() {
        Some(format) if FORMATS.contains(&format) => Ok(reader.into_decoder()?),
        _ => Err(PictureError::NotSupported),
    }
}

fn check((width, height): (u32, u32)) -> Result<(), PictureError> {
    if width == 0 || height == 0 {
        return Err(PictureError::Broken);
    }
    if width > MAX_SIDE || height > MAX_SIDE || u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(PictureError::TooManyPixels);
    }
    Ok(())
}

fn encode(picture: &DynamicImage) -> Result<Thumbnail, PictureError> {
    let mut bytes = Vec::new();
    let mime = if picture.color().has_alpha() && picture.to_rgba8().pixels().any(|pixel| pixel.0[3] != u8::MAX) {
        let encoder = PngEncoder::new_with_quality(&mut bytes, CompressionType::Default, FilterType::Adaptive);
        picture.to_rgba8().write_with_encoder(encoder)?;
        "image/png"
    } else {
        picture.to_rgb8().write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY))?;
        "image/jpeg"
    };
    Ok(Thumbnail { bytes, mime })
}

impl From<ImageError> for PictureError {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Limits(_) => Self::TooManyPixels,
            ImageError::Unsupported(_) => Self::NotSupported,
            _ => Self::Broken,
        }
    }
}
