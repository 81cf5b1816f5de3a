//! A picture of a file: the one that is kept, or else one that is made now, and kept.

use bytes::Bytes;
use futures_util::TryStreamExt;
use sluice_common::muid::Muid;

use super::{DownloadError, check_copy, open};
use crate::{
    db::{Content, Variant},
    error::ApiError,
    pictures::{MAX_SOURCE_BYTES, MEDIUM_SIDE, PictureError, THUMB_SIDE},
    state::App,
};

/// The longest picture that is kept; one of ours has four bytes a pixel at most.
const MAX_KEPT_BYTES: u64 = 4 * 1024 * 1024;

const PNG_START: &[u8] = b"\x89PNG";

/// The file of the picture.
pub(super) async fn get(app: &App, muid: Muid, variant: Variant) -> Result<Bytes, ApiError> {
    if let Some(kept) = kept(app, muid, variant).await? {
        return Ok(kept);
    }
    let side = if variant == Variant::Medium { MEDIUM_SIDE } else { THUMB_SIDE };
    let mut made_meanwhile = None;
    let read = async {
        made_meanwhile = kept(app, muid, variant).await?;
        if made_meanwhile.is_some() {
            return Ok::<_, ApiError>(None);
        }
        let content = app.content(muid).await?.ok_or(DownloadError::NoCopy)?;
        if content.size > MAX_SOURCE_BYTES {
            return Err(PictureError::TooManyBytes.into());
        }
        Ok(Some(whole(app, &content).await?))
    };
    match app.pictures.thumbnail(muid, side, read).await? {
        Some(made) => {
            let picture = Bytes::from(made.bytes);
            app.uploads.store_variant(muid, variant, picture.clone());
            Ok(picture)
        }
        None => Ok(made_meanwhile.unwrap_or_default()),
    }
}

/// Its content type.
pub(super) fn mime(picture: &[u8]) -> &'static str {
    if picture.starts_with(PNG_START) { "image/png" } else { "image/jpeg" }
}

/// What a download of it is called: as the file, with an ending that fits.
pub(super) fn filename(filename: &str, picture: &[u8]) -> String {
    let stem = filename.rsplit_once('.').map_or(filename, |(stem, _)| stem);
    format!("{stem}.{}", if picture.starts_with(PNG_START) { "png" } else { "jpg" })
}

/// The picture that is kept. One that cannot be read is none: it can be made again.
async fn kept(app: &App, muid: Muid, variant: Variant) -> Result<Option<Bytes>, ApiError> {
    let Some(content) = app.db.content(muid, variant).await? else { return Ok(None) };
    if content.size > MAX_KEPT_BYTES {
        return Ok(None);
    }
    match whole(app, &content).await {
        Ok(picture) => Ok(Some(picture.into())),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "a thumbnail cannot be read; making it again");
            Ok(None)
        }
    }
}

async fn whole(app: &App, content: &Content) -> Result<Vec<u8>, DownloadError> {
    check_copy(app, content).await?;
    let mut bytes = Vec::with_capacity(content.size.try_into().unwrap_or(0));
    let mut pieces = open(app, content, 0..content.size).await?;
    while let Some(piece) = pieces.try_next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn called_as_the_file_with_an_ending_that_fits() {
        for (of, name) in [("cat.gif", "cat.png"), ("a.b.jpeg", "a.b.png"), ("cat", "cat.png"), ("", ".png")] {
            assert_eq!(filename(of, b"\x89PNG\r\n"), name);
        }
        assert_eq!((filename("cat.png", b"\xff\xd8").as_str(), mime(b"\xff\xd8")), ("cat.jpg", "image/jpeg"));
        assert_eq!(mime(b"\x89PNG\r\n"), "image/png");
    }
}
