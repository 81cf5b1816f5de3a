//! Multipart forms, byte by byte, so that they can be wrong as well.

const BOUNDARY: &str = "----sluice-e2e-boundary";

/// Content type and body of a form with nothing but a file.
pub fn with_file(file: &[u8]) -> (String, Vec<u8>) {
    with(&[], &[file])
}

/// Content type and body of a form with these fields, then these files.
pub fn with(fields: &[(&str, &str)], files: &[&[u8]]) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    for (name, value) in fields {
        let part = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend_from_slice(part.as_bytes());
    }
    for file in files {
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a b.bin\"\r\nContent-Type: \
             application/x-test\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(file);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    (format!("multipart/form-data; boundary={BOUNDARY}"), body)
}
