//! The OpenAPI document, `GET /openapi.json`: made of the annotations that the router itself is made of, so every route of
//! one is a route of the other.

use std::collections::BTreeMap;

use serde::Serialize;
use sluice_common::problem;
use utoipa::{
    IntoResponses, Modify, OpenApi, PartialSchema, ToSchema,
    openapi::{
        ContentBuilder, Ref, RefOr, Response, ResponseBuilder, Schema,
        header::HeaderBuilder,
        schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type},
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

/// What stands in the document beside the routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Sluice media server",
        description = "Stores, seals and serves files. The gateway in front of it sells `POST /largefile`: without a token \
            it answers 402 with an invoice (docs/API.md)."
    ),
    components(schemas(Problem, Truth)),
    modifiers(&Logins)
)]
pub struct ApiDocument;

/// An error: RFC 9457, as `application/problem+json`. Some have more members.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// `about:blank`.
    #[serde(rename = "type")]
    kind: String,
    /// What the status means.
    title: String,
    /// The status.
    status: u16,
    /// Stable, for programs.
    code: String,
    /// For people.
    #[schema(required = false)]
    detail: String,
}

/// A stored file as it goes over the wire.
pub struct Bytes;

impl PartialSchema for Bytes {
    fn schema() -> RefOr<Schema> {
        let format = SchemaFormat::KnownFormat(KnownFormat::Binary);
        ObjectBuilder::new().schema_type(Type::String).format(Some(format)).into()
    }
}

impl ToSchema for Bytes {}

/// What a form says for true and false, for the document alone.
pub struct Truth;

impl PartialSchema for Truth {
    fn schema() -> RefOr<Schema> {
        let spellings = ["true", "1", "yes", "on", "false", "0", "no", "off", ""];
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(spellings)).into()
    }
}

impl ToSchema for Truth {}

struct Logins;

impl Modify for Logins {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let jwt = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT");
        let l402 = ApiKeyValue::with_description("Authorization", "`L402 TOKEN:PREIMAGE`: a token and its preimage");
        for (name, scheme) in [
            ("jwt", SecurityScheme::Http(jwt.description(Some("the token of POST /verify")).build())),
            ("jwt_query", SecurityScheme::ApiKey(ApiKey::Query(ApiKeyValue::new("jwt")))),
            ("jwt_cookie", SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new("jwt")))),
            ("l402", SecurityScheme::ApiKey(ApiKey::Header(l402))),
        ] {
            components.add_security_scheme(name, scheme);
        }
    }
}

/// A set of errors that several routes share.
macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident { $($status:literal: $text:literal,)* })*) => { $(
        $(#[$doc])*
        pub struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                [$(($status, $text)),*].into_iter().map(|(status, text): (u16, &str)| problem(status, text)).collect()
            }
        }
    )* };
}

problems! {
    /// What goes wrong here.
    ServerErrors {
        500: "`internal`, `file_unavailable`",
        503: "`database_unavailable`, `pictures_busy`, …: come again, where there is `Retry-After` after as many seconds",
    }
    /// Without a login, or one that is not good.
    LoginErrors {
        400: "`two_credentials`, `invalid_query`, `invalid_path`",
        401: "`login_required`, `invalid_login`, `readonly_login`, `malformed_credential`, `forged_token`, …",
    }
    /// Of a file by its muid.
    FileErrors {
        404: "`no_such_file`",
        410: "`file_expired`",
    }
    /// Of a media token, or of the login that it needs.
    MediaTokenErrors {
        401: "`malformed_media_token`, `wrong_host`, `wrong_buyer`, `not_signed_by_owner`, `login_required`, `invalid_login`, `malformed_credential`, `forged_token`, …",
        410: "`file_expired`, `media_token_expired`",
    }
    /// Of a download.
    DownloadErrors {
        400: "`invalid_query`, `invalid_path`",
        404: "`no_such_file`",
        410: "`file_expired`",
        412: "`precondition_failed`",
        413: "`picture_too_large`: no thumbnail is made of it",
        415: "`not_a_picture`: no thumbnail is made of it",
        416: "`range_not_satisfiable`",
        422: "`broken_picture`: no thumbnail is made of it",
    }
    /// Of an upload.
    UploadErrors {
        400: "`malformed_form`, `empty_file`, `incomplete_body`, `two_credentials`",
        401: "`login_required`, `invalid_login`, `readonly_login`, `malformed_credential`, `forged_token`, …",
        413: "`too_large`, `form_too_large`, `over_quota`, `picture_too_large`",
        415: "`not_multipart`, `not_a_picture`",
        422: "`no_file`, `two_files`, `invalid_field`, `broken_picture`",
        507: "`storage_unavailable`: the store is full",
    }
}

/// What a download answers, for the document alone.
pub struct Download;

impl IntoResponses for Download {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let text = |text: &str| {
            let schema = ObjectBuilder::new().schema_type(Type::String);
            HeaderBuilder::new().schema(Some(schema)).description(Some(text)).build()
        };
        let file = |description: &str| {
            ResponseBuilder::new()
                .description(description)
                .content("*/*", ContentBuilder::new().schema(Some(Bytes::schema())).build())
                .header("ETag", text("the file; its bytes never change"))
                .header("Content-Disposition", text("`attachment`, with the file's name"))
        };
        [
            ("200", file("the file, with the content type that its owner gave it").build()),
            ("206", file("a part of it").header("Content-Range", text("which part")).build()),
            ("304", ResponseBuilder::new().description("as `If-None-Match` or `If-Modified-Since` says").build()),
        ]
        .map(|(status, response)| (status.to_owned(), response.into()))
        .into()
    }
}

fn problem(status: u16, text: &str) -> (String, RefOr<Response>) {
    let schema = RefOr::Ref(Ref::from_schema_name("Problem"));
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let response = ResponseBuilder::new().description(text).content(problem::CONTENT_TYPE, content).build();
    (status.to_string(), response.into())
}
