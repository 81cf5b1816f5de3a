//! An upload's form: one file and what its owner says of it (protocols.md §3).

use futures_util::TryStreamExt;
use http::header::CONTENT_TYPE;
use multer::{Field, Multipart};
use sluice_common::limits::MAX_FORM_OVERHEAD_BYTES;

use super::{
    UploadError,
    body::{BodyBytes, FileBytes},
    fields::{self, Fields},
    pipeline::Pipeline,
};

/// The longest boundary that is accepted. RFC 2046 allows 70 characters.
const MAX_BOUNDARY_LEN: usize = 200;

/// A form that was read to its end; its file is in the pipeline.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) filename: String,
    pub(super) mime: String,
    pub(super) fields: Fields,
    /// The first bytes of the file, as many as were asked for.
    pub(super) head: Vec<u8>,
    /// The length of the whole body.
    pub(super) body_size: u64,
}

/// The boundary of a form with this content type.
pub(super) fn boundary(content_type: Option<&str>) -> Result<String, UploadError> {
    match multer::parse_boundary(content_type.ok_or(UploadError::NotMultipart)?) {
        Ok(boundary) if (1..=MAX_BOUNDARY_LEN).contains(&boundary.len()) => Ok(boundary),
        Ok(_) | Err(multer::Error::NoBoundary) => {
            Err(UploadError::MalformedForm("the content type has no boundary, or one that is too long"))
        }
        Err(_) => Err(UploadError::NotMultipart),
    }
}

/// Reads a form, and the body to its end; the part `file` goes through `pipeline` as it comes, and its
/// first `head_len` bytes are kept beside.
pub(super) async fn read(
    mut body: BodyBytes,
    boundary: String,
    max_upload_bytes: u64,
    head_len: usize,
    pipeline: &mut Pipeline,
) -> Result<Form, UploadError> {
    let file_bytes = body.file_bytes();
    let mut form = Multipart::new(&mut body, boundary);
    let parts = read_parts(&mut form, max_upload_bytes, head_len, &file_bytes, pipeline).await;
    drop(form);
    let parts = match parts {
        // A client that sends its file again from where it has already read it sends nothing at all.
        Err(UploadError::MalformedForm(_)) if body.is_empty() => return Err(UploadError::EmptyFile),
        parts => parts?,
    };
    // What follows the last boundary: nothing is stored for who withholds it.
    while body.try_next().await?.is_some() {}
    if body.overhead() > MAX_FORM_OVERHEAD_BYTES {
        return Err(UploadError::FormTooLarge);
    }
    Ok(Form { body_size: body.given(), ..parts })
}

async fn read_parts(
    form: &mut Multipart<'_>,
    max_upload_bytes: u64,
    head_len: usize,
    file_bytes: &FileBytes,
    pipeline: &mut Pipeline,
) -> Result<Form, UploadError> {
    let mut file = None;
    let mut fields = Fields::default();
    let mut head = Vec::new();
    while let Some(mut part) = form.next_field().await.map_err(form_error)? {
        if part.name() == Some("file") {
            if file.is_some() {
                return Err(UploadError::TwoFiles);
            }
            file = Some((fields::filename(part.file_name()), fields::mime(part.headers().get(CONTENT_TYPE))));
            let mut len = 0;
            while let Some(bytes) = part.chunk().await.map_err(form_error)? {
                len = file_bytes.add(bytes.len());
                if len > max_upload_bytes {
                    return Err(UploadError::TooLarge { limit_bytes: max_upload_bytes });
                }
                head.extend_from_slice(&bytes[..bytes.len().min(head_len - head.len())]);
                pipeline.write(&bytes).await?;
            }
            if len == 0 {
                return Err(UploadError::EmptyFile);
            }
        } else if let Some(field) = part.name().and_then(|name| fields.wanted(name)) {
            let value = read_value(&mut part, field.max_len()).await?;
            fields.set(field, value)?;
        } else {
            while part.chunk().await.map_err(form_error)?.is_some() {}
        }
    }
    let (filename, mime) = file.ok_or(UploadError::NoFile)?;
    Ok(Form { filename, mime, fields, head, body_size: 0 })
}

/// A part's bytes, at most one more than `max_len`: enough to see that it is too long.
async fn read_value(part: &mut Field<'_>, max_len: usize) -> Result<Vec<u8>, UploadError> {
    let mut value = Vec::new();
    while let Some(bytes) = part.chunk().await.map_err(form_error)? {
        let room = (max_len + 1).saturating_sub(value.len());
        value.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
    Ok(value)
}

fn form_error(error: multer::Error) -> UploadError {
    use multer::Error::{
        DecodeHeaderName, DecodeHeaderValue, IncompleteFieldData, IncompleteHeaders, IncompleteStream,
        ReadHeaderFailed, StreamReadFailed,
    };
    UploadError::MalformedForm(match error {
        StreamReadFailed(cause) => match cause.downcast::<UploadError>() {
            Ok(cause) => return *cause,
            Err(_) => "its bytes cannot be read",
        },
        IncompleteFieldData { .. } | IncompleteHeaders | IncompleteStream => "it ends before its last boundary",
        ReadHeaderFailed(_) | DecodeHeaderName { .. } | DecodeHeaderValue { .. } => "a part has a broken header",
        _ => "it is not multipart/form-data",
    })
}
