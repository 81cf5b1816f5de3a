//! As much of JPEG (ITU T.81, annex B) as tells how large a picture is, and whether its file is all there: decoders paint
//! what is missing grey, which would be kept for good.

/// How every JPEG file begins.
pub(super) const START: [u8; 2] = [0xff, 0xd8];

const END: u8 = 0xd9;
const SCAN: u8 = 0xda;

/// Segments before the frame are 64 KiB at most, so these hold more than any file that is read.
const MAX_SEGMENTS_BEFORE_FRAME: usize = 1_000;

/// Whether the file goes on to its end marker. What follows that is not looked at: phones put films there.
pub(super) fn is_whole(file: &[u8]) -> bool {
    Segments::of(file).any(|(marker, _)| marker == END)
}

/// Width and height.
pub(super) fn dimensions(head: &[u8]) -> Option<(u32, u32)> {
    let mut segments = Segments::of(head).take(MAX_SEGMENTS_BEFORE_FRAME).take_while(|(marker, _)| *marker != SCAN);
    // Huffman tables, a reserved marker and arithmetic conditioning have numbers between those of frames.
    let (_, frame) =
        segments.find(|(marker, _)| matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc))?;
    // Its length and the bits of a sample come first.
    let [.., h1, h0, w1, w0] = *frame.first_chunk::<7>()?;
    Some((u16::from_be_bytes([w1, w0]).into(), u16::from_be_bytes([h1, h0]).into()))
}

/// The markers of a file, each with its segment, as long as they are all there.
struct Segments<'a>(&'a [u8]);

impl<'a> Segments<'a> {
    fn of(file: &'a [u8]) -> Self {
        Self(&file[START.len().min(file.len())..])
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        // A byte 0xff that is not stuffed (00), a fill byte (ff) or a restart within a scan (d0 to d7). What follows the
        // head of a scan is its data, up to the next marker.
        let is_marker = |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0 | 0xff | 0xd0..=0xd7);
        let at = self.0.windows(2).position(is_marker)?;
        let (marker, rest) = (self.0[at + 1], &self.0[at + 2..]);
        // Segments say how long they are.
        let len = if marker == END { 0 } else { u16::from_be_bytes(*rest.first_chunk()?).max(2) };
        let (segment, rest) = rest.split_at_checked(len.into())?;
        self.0 = rest;
        Some((marker, segment))
    }
}
