//! Holds every answer that a test gets against the OpenAPI document: its status is declared, and so is its body.

use std::sync::LazyLock;

use http::Method;
use serde_json::{Map, Value};
use sluice_backend::router::routes;

use crate::support::Answer;

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::to_value(routes().split_for_parts().1).expect("a document"));

/// Panics where the document has the request's route, and does not say that it may answer so.
pub fn check(method: &Method, path: &str, answer: &Answer) {
    let Some(operation) = operation(method, path) else { return };
    let status = answer.status.as_u16();
    let response = &operation["responses"][status.to_string()];
    assert!(response.is_object(), "{method} {path} is not said to answer {status}: {answer:?}");
    let Some(body) = answer.body.as_deref().filter(|_| method != Method::HEAD) else { return };
    let Some(described) = response["content"].as_object() else {
        return assert!(body.is_empty(), "{method} {path} {status} is not said to have a body: {answer:?}");
    };
    if described.contains_key("*/*") {
        return;
    }
    let mime = answer.headers.get("content-type").map_or("", |mime| mime.to_str().unwrap());
    let described = described.get(mime).unwrap_or_else(|| panic!("{method} {path} {status} is not said to be {mime}"));
    let json = serde_json::from_slice(body).unwrap();
    if let Err(reason) = conforms(&described["schema"], &json) {
        panic!("{method} {path} {status}: {reason}: {json}");
    }
}

fn operation(method: &Method, path: &str) -> Option<&'static Value> {
    let paths = DOCUMENT["paths"].as_object()?;
    let (_, item) = paths.iter().find(|(template, _)| fits(template, path))?;
    let method = if method == Method::HEAD { "get".to_owned() } else { method.as_str().to_lowercase() };
    item.get(&method)
}

fn fits(template: &str, path: &str) -> bool {
    template.split('/').count() == path.split('/').count()
        && template.split('/').zip(path.split('/')).all(|(wanted, found)| match wanted.starts_with('{') {
            true => !found.is_empty(),
            false => wanted == found,
        })
}

/// Whether a value is what a schema says, as far as the schemas of this document go. Unlike JSON Schema has it, an object
/// has no members that nobody told of; but an error may.
fn conforms(schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(name) = schema["$ref"].as_str() {
        let schema = DOCUMENT.pointer(name.trim_start_matches('#')).ok_or(format!("no {name}"))?;
        return conforms(schema, value).map_err(|reason| format!("{name}: {reason}"));
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let refused: Vec<_> = choices.iter().filter_map(|choice| conforms(choice, value).err()).collect();
        return match choices.len() - refused.len() {
            1 => Ok(()),
            fitting => Err(format!("{fitting} of {} fit: {refused:?}", choices.len())),
        };
    }
    let is = |kind: &Value| match kind.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("null") => value.is_null(),
        _ => false,
    };
    let kind = &schema["type"];
    if !kind.as_array().map_or_else(|| is(kind), |kinds| kinds.iter().any(is)) {
        return Err(format!("{value} is no {kind}"));
    }
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| conforms(&schema["items"], item)),
        Value::Object(members) => has_members(schema, members),
        _ => Ok(()),
    }
}

fn has_members(schema: &Value, members: &Map<String, Value>) -> Result<(), String> {
    let Some(properties) = schema["properties"].as_object() else { return Ok(()) };
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    if let Some(missing) = required.into_iter().find(|name| !members.contains_key(*name)) {
        return Err(format!("`{missing}` is missing"));
    }
    let is_problem = properties.contains_key("code") && properties.contains_key("status");
    members.iter().try_for_each(|(name, value)| match properties.get(name) {
        Some(schema) => conforms(schema, value).map_err(|reason| format!("`{name}`: {reason}")),
        None if is_problem => Ok(()),
        None => Err(format!("nobody told of `{name}`")),
    })
}
