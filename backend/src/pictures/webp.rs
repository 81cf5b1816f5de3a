//! As much of WebP (<https://developers.google.com/speed/webp/docs/riff_container>) as tells how large a picture is, and
//! that no part of it is larger: its decoder takes the memory for a part before it compares it with the whole.

use super::PictureError;

const FILE_HEADER_LEN: usize = 12;
const FRAME_HEADER_LEN: usize = 16;

/// Width and height of the canvas, as the first chunk has them. So what comes after the pixels (EXIF does) is not needed.
pub(super) fn canvas(head: &[u8]) -> Option<(u32, u32)> {
    let (name, _, body) = Chunks::of(head).next()?;
    match name {
        b"VP8 " => lossy(body),
        b"VP8L" => lossless(body),
        b"VP8X" => Some((u24(body.get(4..)?)? + 1, u24(body.get(7..)?)? + 1)),
        _ => None,
    }
}

/// Refuses a file with a frame that is larger than the canvas, or with metadata that are not all there.
pub(super) fn check(file: &[u8]) -> Result<(), PictureError> {
    let canvas = canvas(file).ok_or(PictureError::Broken)?;
    let check_lossy = |body| match lossy(body) {
        Some((width, height)) if width <= canvas.0 && height <= canvas.1 => Ok(()),
        Some(_) => Err(PictureError::TooManyPixels),
        None => Err(PictureError::Broken),
    };
    for (name, len, body) in Chunks::of(file) {
        match name {
            b"VP8 " => check_lossy(body)?,
            // Of an animation's frame; what comes after its transparency is taken for pixels, whatever it is called.
            b"ANMF" => {
                let mut after_alpha = false;
                for (name, _, body) in Chunks(body.get(FRAME_HEADER_LEN..).ok_or(PictureError::Broken)?) {
                    if after_alpha || name == b"VP8 " {
                        check_lossy(body)?;
                    }
                    after_alpha = name == b"ALPH";
                }
            }
            // The decoder takes as much memory as it says it has.
            b"EXIF" if len > body.len() => return Err(PictureError::Broken),
            // Of lossless pixels the decoder compares the size first.
            _ => {}
        }
    }
    Ok(())
}

/// The chunks of a file, or of a frame: name, length, and as much as is there of the body.
struct Chunks<'a>(&'a [u8]);

impl<'a> Chunks<'a> {
    fn of(file: &'a [u8]) -> Self {
        Self(file.get(FILE_HEADER_LEN..).unwrap_or_default())
    }
}

impl<'a> Iterator for Chunks<'a> {
    type Item = (&'a [u8; 4], usize, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = self.0.split_first_chunk()?;
        let (len, rest) = rest.split_first_chunk()?;
        let len = u32::from_le_bytes(*len) as usize;
        let (body, rest) = rest.split_at(len.min(rest.len()));
        self.0 = rest.get(len % 2..).unwrap_or_default();
        Some((name, len, body))
    }
}

fn lossy(body: &[u8]) -> Option<(u32, u32)> {
    let [_, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1] = *body.first_chunk()? else { return None };
    let side = |bytes| u32::from(u16::from_le_bytes(bytes) & 0x3fff);
    Some((side([w0, w1]), side([h0, h1])))
}

fn lossless(body: &[u8]) -> Option<(u32, u32)> {
    let (0x2f, rest) = body.split_first().map(|(first, rest)| (*first, rest))? else { return None };
    let sides = u32::from_le_bytes(*rest.first_chunk()?);
    Some(((sides & 0x3fff) + 1, ((sides >> 14) & 0x3fff) + 1))
}

fn u24(bytes: &[u8]) -> Option<u32> {
    let [a, b, c] = *bytes.first_chunk()?;
    Some(u32::from_le_bytes([a, b, c, 0]))
}
