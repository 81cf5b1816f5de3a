//! The forms, for the OpenAPI document: an upload's is read as it comes, by [`crate::upload`]. What a form may leave out it
//! may also leave empty.

use utoipa::ToSchema;

use crate::openapi::Truth;

/// A form in which an owner says something of a file, with what else is in it.
macro_rules! form {
    ($(#[$attribute:meta])* $name:ident { $($more:tt)* }) => {
        $(#[$attribute])*
        #[expect(dead_code, reason = "its fields are only described")]
        pub struct $name {
            $($more)*
            /// At most 1024 bytes. In an upload `name`, if it is empty.
            #[schema(nullable = false, max_length = 1024)]
            name: Option<String>,
            /// At most 16384 bytes. In an upload `description`, if it is empty.
            #[schema(nullable = false, max_length = 16384)]
            description: Option<String>,
            /// In satoshi.
            #[schema(nullable = false, minimum = 0)]
            price: Option<i64>,
            /// With commas between them, at most 4096 bytes. In an upload the field may be there several times.
            #[schema(nullable = false, max_length = 4096, pattern = "^([^,]*,){0,63}[^,]*$")]
            tags: Option<String>,
            /// How long a media token sold for it should last, in seconds; 0: a year.
            #[schema(nullable = false, minimum = 0)]
            ttl: Option<i64>,
            /// Whether anybody may download it.
            #[schema(nullable = false, value_type = Option<Truth>)]
            public: Option<Truth>,
        }
    };
}

form! {
    /// A file, and what its owner says of it. The first value of each field counts.
    #[derive(ToSchema)]
    UploadForm {
        /// With its name and its content type.
        #[schema(value_type = String, format = Binary, min_length = 1)]
        file: (),
        /// When it is to be deleted, in unix seconds; 0: never.
        #[schema(nullable = false, minimum = 0, maximum = 253402300799_i64)]
        expiry: Option<i64>,
    }
}

form! {
    /// What is to change. What is not there stays; a text may be empty.
    #[derive(ToSchema)]
    #[serde(deny_unknown_fields)]
    ChangeForm {}
}
