//! How large a picture is, by the first bytes of its file. Nothing is unpacked, so it costs neither time nor memory.

use image::ImageFormat;

use super::{PictureError, jpeg, webp};

/// The most pixels that a picture may have: a camera's, not a bomb's.
pub const MAX_PIXELS: u64 = 50_000_000;

/// The most pixels of a side.
pub const MAX_SIDE: u32 = 32_768;

/// Width and height in pixels, as the file stores them (before any rotation that its EXIF data asks for). `head` may be
/// the first part of a file, as long as that holds what comes before the pixels.
pub fn dimensions(head: &[u8]) -> Result<(u32, u32), PictureError> {
    let dimensions = match image::guess_format(head)? {
        ImageFormat::Jpeg => jpeg::dimensions(head),
        ImageFormat::Png => png(head),
        ImageFormat::Gif => gif(head),
        ImageFormat::WebP => webp::canvas(head),
        _ => return Err(PictureError::NotSupported),
    };
    let (width, height) = dimensions.filter(|(width, height)| *width > 0 && *height > 0).ok_or(PictureError::Broken)?;
    if width > MAX_SIDE || height > MAX_SIDE || u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(PictureError::TooManyPixels);
    }
    Ok((width, height))
}

/// Its first chunk, IHDR (ISO 15948, 11.2.2).
fn png(head: &[u8]) -> Option<(u32, u32)> {
    let sides = head.get(12..)?.strip_prefix(b"IHDR")?;
    let (width, rest) = sides.split_first_chunk()?;
    Some((u32::from_be_bytes(*width), u32::from_be_bytes(*rest.first_chunk()?)))
}

/// Its logical screen (GIF89a, 18).
fn gif(head: &[u8]) -> Option<(u32, u32)> {
    let [w0, w1, h0, h1] = *head.get(6..)?.first_chunk()?;
    Some((u16::from_le_bytes([w0, w1]).into(), u16::from_le_bytes([h0, h1]).into()))
}
