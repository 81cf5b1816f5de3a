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

use super::{
    PIXELS_PER_PERMIT, PictureError,
    head::{MAX_PIXELS, dimensions},
    jpeg, permits, webp,
};

/// The largest file that a thumbnail is made of, in bytes.
pub const MAX_SOURCE_BYTES: u64 = 32 * 1024 * 1024;

/// The most bytes of a picture's pixels once it is decoded: 50 million of four bytes each, half as many of eight.
const MAX_DECODED_BYTES: u64 = MAX_PIXELS * 4;

/// The side of a small thumbnail, in pixels.
pub const THUMB_SIDE: u32 = 60;

/// The side of a large one.
pub const MEDIUM_SIDE: u32 = 400;

/// The most bytes of one pixel.
const MAX_BYTES_PER_PIXEL: u64 = 8;

/// The most bytes of what else stands in a PNG, once it is unpacked: a colour profile in half a megabyte may have a thousand
/// times as much.
const MAX_METADATA_BYTES: u64 = 16 * 1024 * 1024;

const JPEG_QUALITY: u8 = 85;

/// A picture that was made here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thumbnail {
    /// The picture's file.
    pub bytes: Vec<u8>,
    /// `image/png` where it is transparent somewhere, else `image/jpeg`.
    pub mime: &'static str,
}

/// The middle square of a picture, scaled to `side` pixels a side and upright as its EXIF data says; of an animation the
/// first picture. Takes time and memory in proportion to the pixels, which are checked first.
pub fn thumbnail(file: &[u8], side: u32) -> Result<Thumbnail, PictureError> {
    let (width, height) = dimensions(file)?;
    if image::guess_format(file)? == ImageFormat::WebP {
        webp::check(file)?;
    }
    let mut decoder = decoder(file)?;
    // What was counted is what is decoded.
    if decoder.dimensions() != (width, height) {
        return Err(PictureError::Broken);
    }
    if decoder.total_bytes() > MAX_DECODED_BYTES {
        return Err(PictureError::TooManyPixels);
    }
    if file.starts_with(&jpeg::START) && !jpeg::is_whole(file) {
        return Err(PictureError::Broken);
    }
    let mut limits = Limits::no_limits();
    // The decoder's own buffers beside the pixels: a frame of a GIF may be larger than the whole.
    limits.max_alloc = Some(u64::from(permits(width, height)) * PIXELS_PER_PERMIT * MAX_BYTES_PER_PIXEL);
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

pub(super) fn decoder(file: &[u8]) -> Result<impl ImageDecoder + use<'_>, PictureError> {
    let mut reader = ImageReader::with_format(Cursor::new(file), image::guess_format(file)?);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_METADATA_BYTES);
    reader.limits(limits);
    Ok(reader.into_decoder()?)
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
