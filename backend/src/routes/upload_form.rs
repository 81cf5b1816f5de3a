//! The form of an upload, for the OpenAPI document: it is read as it comes, by [`crate::upload`].

use utoipa::ToSchema;

use crate::openapi::Bytes;

/// A file, and what its owner says of it. The first value of each field counts.
#[derive(ToSchema)]
#[expect(dead_code, reason = "its fields are only described")]
pub struct UploadForm {
    /// With its name and its content type.
    #[schema(value_type = Bytes)]
    file: (),
    /// `name`, if it is empty.
    #[schema(max_length = 1024)]
    name: Option<String>,
    /// `description`, if it is empty.
    #[schema(max_length = 16384)]
    description: Option<String>,
    /// In satoshi.
    #[schema(minimum = 0)]
    price: Option<i64>,
    /// With commas between them; the field may be there several times.
    tags: Option<String>,
    /// How long a media token sold for it should last, in seconds; 0: a year.
    #[schema(minimum = 0)]
    ttl: Option<i64>,
    /// When it is to be deleted, in unix seconds; 0: never.
    #[schema(minimum = 0, maximum = 253402300799_i64)]
    expiry: Option<i64>,
    /// Whether anybody may download it.
    public: Option<bool>,
}
