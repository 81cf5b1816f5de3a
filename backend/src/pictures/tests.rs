use std::{future::pending, io::Cursor};

use image::{
    DynamicImage, ImageDecoder, ImageEncoder, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage,
    codecs::{jpeg::JpegEncoder, png::PngEncoder, webp::WebPEncoder},
    metadata::Orientation,
};

use super::*;

const RED: Rgb<u8> = Rgb([250, 0, 0]);
const GREEN: Rgb<u8> = Rgb([0, 250, 0]);
const BLUE: Rgb<u8> = Rgb([0, 0, 250]);
const WHITE: Rgb<u8> = Rgb([255, 255, 255]);

/// A wide picture: red at its sides, and in the middle square a quarter of each of four colours: red and green above, blue
/// and white below.
fn quarters() -> DynamicImage {
    RgbImage::from_fn(200, 100, |x, y| match (x, y) {
        (0..50 | 150.., _) => RED,
        (0..100, 0..50) => RED,
        (_, 0..50) => GREEN,
        (0..100, _) => BLUE,
        _ => WHITE,
    })
    .into()
}

fn file(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn decoded(thumbnail: &Thumbnail) -> DynamicImage {
    let format = ImageFormat::from_mime_type(thumbnail.mime).unwrap();
    image::load_from_memory_with_format(&thumbnail.bytes, format).unwrap()
}

/// The colours in the middle of each quarter: above left, above right, below left, below right.
fn colours(picture: &DynamicImage) -> [Rgb<u8>; 4] {
    let picture = picture.to_rgb8();
    let (near, far) = (picture.width() / 4, picture.width() * 3 / 4);
    [(near, near), (far, near), (near, far), (far, far)].map(|(x, y)| *picture.get_pixel(x, y))
}

#[track_caller]
fn assert_like(found: [Rgb<u8>; 4], wanted: [Rgb<u8>; 4]) {
    let distance = |a: Rgb<u8>, b: Rgb<u8>| a.0.into_iter().zip(b.0).map(|(a, b)| a.abs_diff(b)).max();
    assert!(found.into_iter().zip(wanted).all(|(a, b)| distance(a, b) < Some(20)), "{found:?} {wanted:?}");
}

#[test]
fn the_middle_square_in_both_sizes_of_every_format() {
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Gif, ImageFormat::WebP] {
        let file = file(&quarters(), format);
        assert_eq!(dimensions(&file), Ok((200, 100)));
        for side in [THUMB_SIDE, MEDIUM_SIDE] {
            let made = thumbnail(&file, side).unwrap();
            let picture = decoded(&made);
            assert_eq!((picture.width(), picture.height(), made.mime), (side, side, "image/jpeg"), "{format:?}");
            assert_like(colours(&picture), [RED, GREEN, BLUE, WHITE]);
        }
    }
}

fn encode(mut encoder: impl ImageEncoder, exif: Vec<u8>) {
    encoder.set_exif_metadata(exif).unwrap();
    quarters().write_with_encoder(encoder).unwrap();
}

#[test]
fn upright_as_its_exif_data_says() {
    // TIFF, little endian, one entry: orientation (0x0112), short, 1 of them.
    let exif = |orientation: u8| {
        let mut exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
        exif.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
        exif
    };
    for (orientation, wanted) in [
        (1, [RED, GREEN, BLUE, WHITE]),
        (2, [GREEN, RED, WHITE, BLUE]),
        (3, [WHITE, BLUE, GREEN, RED]),
        (4, [BLUE, WHITE, RED, GREEN]),
        (5, [RED, BLUE, GREEN, WHITE]),
        (6, [BLUE, RED, WHITE, GREEN]),
        (7, [WHITE, GREEN, BLUE, RED]),
        (8, [GREEN, WHITE, RED, BLUE]),
    ] {
        assert_eq!(Orientation::from_exif(orientation).map(Orientation::to_exif), Some(orientation));
        let (mut jpeg, mut png, mut webp) = (Vec::new(), Vec::new(), Vec::new());
        encode(JpegEncoder::new(&mut jpeg), exif(orientation));
        encode(PngEncoder::new(&mut png), exif(orientation));
        encode(WebPEncoder::new_lossless(&mut webp), exif(orientation));
        for file in [jpeg, png, webp] {
            assert_like(colours(&decoded(&thumbnail(&file, 60).unwrap())), wanted);
        }
    }
}

#[test]
fn transparency_stays() {
    let clear = RgbaImage::from_fn(100, 100, |x, _| Rgba([200, 0, 0, if x < 50 { 0 } else { 255 }]));
    for format in [ImageFormat::Png, ImageFormat::Gif, ImageFormat::WebP] {
        let made = thumbnail(&file(&clear.clone().into(), format), 60).unwrap();
        assert_eq!(made.mime, "image/png");
        let picture = decoded(&made).to_rgba8();
        assert_eq!((picture.get_pixel(10, 30).0[3], picture.get_pixel(50, 30).0), (0, [200, 0, 0, 255]), "{format:?}");
    }
    // A channel that says nothing takes no room.
    let opaque = RgbaImage::from_pixel(30, 20, Rgba([1, 2, 3, 255]));
    assert_eq!(thumbnail(&file(&opaque.into(), ImageFormat::Png), 60).unwrap().mime, "image/jpeg");
}

#[test]
fn one_pixel_and_every_depth_will_do() {
    let pixel = RgbImage::from_pixel(1, 1, BLUE);
    let pictures: [DynamicImage; 4] = [
        pixel.clone().into(),
        DynamicImage::ImageLuma8(DynamicImage::from(pixel.clone()).to_luma8()),
        DynamicImage::ImageRgb16(DynamicImage::from(pixel.clone()).to_rgb16()),
        DynamicImage::ImageRgba16(DynamicImage::from(pixel).to_rgba16()),
    ];
    for picture in pictures {
        let made = decoded(&thumbnail(&file(&picture, ImageFormat::Png), 60).unwrap());
        assert_eq!((made.width(), made.height()), (60, 60));
    }
}

#[test]
fn what_is_no_picture_or_a_broken_one_is_refused() {
    for file in [&b""[..], b"no picture", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"BM1234567890", b"%PDF-1.7"] {
        assert_eq!(thumbnail(file, 60), Err(PictureError::NotSupported));
        assert_eq!(dimensions(file), Err(PictureError::NotSupported));
    }
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Gif, ImageFormat::WebP] {
        let whole = file(&quarters(), format);
        for len in [12, whole.len() / 4, whole.len() / 2, whole.len() - 40] {
            let refused = thumbnail(&whole[..len], 60);
            assert!(
                matches!(refused, Err(PictureError::Broken | PictureError::NotSupported)),
                "{format:?} {len} {refused:?}"
            );
        }
        let mut junk = whole.clone();
        junk.truncate(16);
        junk.extend((0..=255u8).cycle().take(5_000));
        assert!(thumbnail(&junk, 60).is_err(), "{format:?}");
    }
    let with_more = [file(&quarters(), ImageFormat::Jpeg), b"a film".to_vec()].concat();
    assert!(thumbnail(&with_more, 60).is_ok());
}

#[test]
fn bombs_are_refused_by_their_heads() {
    // A file of a few bytes that says it has billions of pixels.
    let mut png = file(&quarters(), ImageFormat::Png);
    for (width, height) in [(60_000u32, 60_000u32), (1, MAX_SIDE + 1), (10_000, 5_001), (u32::MAX / 2, u32::MAX / 2)] {
        png[16..20].copy_from_slice(&width.to_be_bytes());
        png[20..24].copy_from_slice(&height.to_be_bytes());
        let crc = crc32(&png[12..29]);
        png[29..33].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(thumbnail(&png, 60), Err(PictureError::TooManyPixels), "{width} × {height}");
        assert_eq!(dimensions(&png), Err(PictureError::TooManyPixels));
    }
    let mut gif = file(&quarters(), ImageFormat::Gif);
    gif[6..10].fill(0xff);
    assert_eq!(thumbnail(&gif, 60), Err(PictureError::TooManyPixels));
    let mut jpeg = file(&quarters(), ImageFormat::Jpeg);
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].fill(0xff);
    assert_eq!(thumbnail(&jpeg, 60), Err(PictureError::TooManyPixels));
}

#[test]
fn a_profile_that_unpacks_to_very_much_is_left_packed() {
    let mut png = Vec::new();
    let mut encoder = PngEncoder::new(&mut png);
    encoder.set_icc_profile(vec![0; 17 << 20]).unwrap();
    quarters().write_with_encoder(encoder).unwrap();
    assert!(png.len() < 1 << 20, "{}", png.len());
    assert_eq!(super::thumbnail::decoder(&png).unwrap().icc_profile().unwrap(), None);
    assert!(thumbnail(&png, 60).is_ok());
}

#[test]
fn a_frame_that_is_larger_than_its_picture_is_refused() {
    let mut gif = file(&RgbImage::new(1_500, 1_500).into(), ImageFormat::Gif);
    gif[6..10].copy_from_slice(&[1, 0, 1, 0]);
    assert_eq!(thumbnail(&gif, 60), Err(PictureError::TooManyPixels));

    let huge = lossy_head(16_383, 16_383);
    for chunks in [
        chunk(b"VP8 ", &huge),
        chunk(b"ANMF", &[vec![0; 16], chunk(b"VP8 ", &huge)].concat()),
        chunk(b"ANMF", &[vec![0; 16], chunk(b"ALPH", &[0, 7]), chunk(b"none", &huge)].concat()),
    ] {
        assert_eq!(thumbnail(&webp(2, 2, &chunks), 60), Err(PictureError::TooManyPixels));
    }
    // Of what says nothing of its size nobody knows what it will take.
    assert_eq!(thumbnail(&webp(2, 2, &chunk(b"VP8 ", &huge[..9])), 60), Err(PictureError::Broken));
    assert_eq!(thumbnail(&webp(2, 2, &chunk(b"ANMF", &[0; 15])), 60), Err(PictureError::Broken));
    assert!(thumbnail(&webp(2, 2, &chunk(b"VP8 ", LOSSY)), 60).is_ok());

    // Metadata of 4 GiB, of which nothing is there.
    let mut exif = [chunk(b"VP8 ", LOSSY), chunk(b"EXIF", b"")].concat();
    let len = exif.len() - 4;
    exif[len..].fill(0xff);
    assert_eq!(webp::check(&webp(2, 2, &exif)), Err(PictureError::Broken));
}

#[test]
fn what_comes_after_the_pixels_of_a_webp_is_not_needed_to_measure_it() {
    let noise = RgbImage::from_fn(1_000, 500, |x, y| {
        Rgb((x * y).wrapping_mul(2_654_435_761).to_be_bytes()[..3].try_into().unwrap())
    });
    let mut webp = Vec::new();
    let mut encoder = WebPEncoder::new_lossless(&mut webp);
    encoder.set_exif_metadata(vec![1; 100]).unwrap();
    DynamicImage::from(noise).write_with_encoder(encoder).unwrap();
    assert!(webp.len() > 1 << 20, "{}", webp.len());
    assert_eq!(dimensions(&webp[..1 << 20]), Ok((1_000, 500)));
}

/// The pixels of a red picture of 2 × 2, by ImageMagick.
const LOSSY: &[u8] = &[
    0xd0, 0x01, 0x00, 0x9d, 0x01, 0x2a, 0x02, 0x00, 0x02, 0x00, 0x02, 0x00, 0x34, 0x25, 0xa0, 0x02, 0x74, 0xba, 0x01,
    0xf8, 0x00, 0x03, 0xb0, 0x00, 0xfe, 0xf0, 0xc4, 0x0b, 0xff, 0x20, 0xb9, 0x61, 0x75, 0xc8, 0xd7, 0xff, 0x20, 0x3f,
    0xe4, 0x07, 0xfc, 0x80, 0xff, 0xf8, 0xf2, 0x00, 0x00, 0x00,
];

/// How such pixels begin in a picture of this size.
fn lossy_head(width: u16, height: u16) -> Vec<u8> {
    [&LOSSY[..6], &width.to_le_bytes(), &height.to_le_bytes(), &LOSSY[10..]].concat()
}

fn chunk(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    [name, &(body.len() as u32).to_le_bytes()[..], body, &[0][..body.len() % 2]].concat()
}

/// An extended WebP of these chunks.
fn webp(width: u8, height: u8, chunks: &[u8]) -> Vec<u8> {
    let canvas = chunk(b"VP8X", &[0, 0, 0, 0, width - 1, 0, 0, height - 1, 0, 0]);
    chunk(b"RIFF", &[b"WEBP", &canvas[..], chunks].concat())
}

/// As PNG has it (ISO 15948, annex D).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[test]
fn dimensions_stand_in_the_head() {
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Gif, ImageFormat::WebP] {
        let whole = file(&quarters(), format);
        assert_eq!(dimensions(&whole[..whole.len() - 10]), Ok((200, 100)), "{format:?}");
    }
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error(transparent)]
struct Failed(#[from] PictureError);

fn muid() -> Muid {
    Muid::of(b"a picture")
}

#[tokio::test]
async fn a_picture_is_made_when_its_turn_has_come() {
    let pictures = Pictures::default();
    let png = file(&quarters(), ImageFormat::Png);
    let made = pictures.thumbnail::<Failed>(muid(), 60, async { Ok(Some(png.clone())) }).await.unwrap().unwrap();
    assert_eq!(made, thumbnail(&png, 60).unwrap());
    assert_eq!(pictures.thumbnail::<Failed>(muid(), 60, async { Ok(None) }).await, Ok(None));
    // What it is not is found out once, whether its head says so or its decoder.
    let broken = png[..png.len() - 40].to_vec();
    for (file, wanted) in [(vec![7; 99], PictureError::NotSupported), (broken, PictureError::Broken)] {
        let muid = Muid::of(&file);
        let first = pictures.thumbnail::<Failed>(muid, 60, async { Ok(Some(file)) }).await;
        assert_eq!(first, Err(Failed(wanted)));
        let again = pictures.thumbnail::<Failed>(muid, 400, async { panic!("it is read again") }).await;
        assert_eq!(again, Err(Failed(wanted)));
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_or_comes_after_too_many_is_sent_away() {
    let pictures = Pictures::new(1, 1);
    let never = || pictures.thumbnail::<Failed>(muid(), 60, pending());
    let (first, second, third) =
        tokio::join!(timeout(MAX_WAIT * 2, never()), timeout(MAX_WAIT * 2, never()), timeout(MAX_WAIT * 2, never()),);
    assert!(first.is_err(), "it has its turn");
    assert_eq!(second.unwrap(), Err(Failed(PictureError::Busy)), "it waited");
    assert_eq!(third.unwrap(), Err(Failed(PictureError::Busy)), "nobody more may wait");
    // Whoever gave up gave back.
    let read = async { Ok::<_, Failed>(None) };
    assert_eq!(pictures.thumbnail(muid(), 60, read).await, Ok(None));
}
