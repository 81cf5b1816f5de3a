//! Whether a JPEG file is all there. Decoders paint what is missing grey, which would be kept for good.

/// How every JPEG file begins.
pub(super) const START: [u8; 2] = [0xff, 0xd8];

const END: u8 = 0xd9;

/// Whether the file goes on to its end marker (ITU T.81, B.1.1). What follows that is not looked at: phones put films there.
pub(super) fn is_whole(file: &[u8]) -> bool {
    let mut rest = &file[START.len().min(file.len())..];
    loop {
        // The next marker: a byte 0xff that is not stuffed (00), a fill byte (ff) or a restart within a scan (d0 to d7).
        let Some(at) = rest.windows(2).position(|pair| pair[0] == 0xff && !matches!(pair[1], 0 | 0xff | 0xd0..=0xd7))
        else {
            return false;
        };
        let marker = rest[at + 1];
        rest = &rest[at + 2..];
        if marker == END {
            return true;
        }
        // Segments say how long they are; what follows the head of a scan is its data, up to the next marker.
        let Some((len, _)) = rest.split_first_chunk() else { return false };
        let Some(after) = rest.get(usize::from(u16::from_be_bytes(*len)).max(2)..) else { return false };
        rest = after;
    }
}
