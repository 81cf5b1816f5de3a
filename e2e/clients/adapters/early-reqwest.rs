//! Sends bodies that are answered before they have been read, by reqwest. The job, and what it prints, is that of
//! early-python.py.

use std::{env, error::Error, io::Write, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use reqwest::{Body, Certificate, Client, RequestBuilder};
use serde_json::{Map, Value, json};

const HEAD: &[u8] = b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n";
const TAIL: &[u8] = b"\r\n--b--\r\n";
const PIECE: usize = 64 * 1024;
const TIMEOUT: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let job: Value = serde_json::from_str(&env::args().nth(1).ok_or("no job")?)?;
    let client = Client::builder().no_proxy().timeout(TIMEOUT);
    let authority = std::fs::read(job["ca"].as_str().ok_or("no ca")?)?;
    let client = client.add_root_certificate(Certificate::from_pem(&authority)?);
    let client = match job["client"].as_str() {
        Some("reqwest_h2c") => client.http2_prior_knowledge(),
        // As the server likes it best.
        Some("reqwest_h2") => client,
        _ => client.http1_only(),
    };
    let client = client.build()?;
    let mut problems = Vec::new();
    for cell in job["cells"].as_array().ok_or("no cells")? {
        let size = usize::try_from(cell["size"].as_u64().ok_or("no size")?)?;
        let form = Bytes::from([HEAD, &vec![b'x'; size], TAIL].concat());
        let no_headers = Map::new();
        let headers = cell["headers"].as_object().unwrap_or(&no_headers);
        let mut wrong = Vec::new();
        for _ in 0..cell["repeat"].as_u64().ok_or("no repeat")? {
            let body = if job["length"] == true { Body::from(form.clone()) } else { in_pieces(&form) };
            let mut request = client.post(job["url"].as_str().ok_or("no url")?).body(body);
            request = request.header("content-type", "multipart/form-data; boundary=b");
            for (name, value) in headers {
                request = request.header(name, value.as_str().unwrap_or_default());
            }
            if job["expect"] == true {
                // It does not wait, but the server cannot know.
                request = request.header("expect", "100-continue");
            }
            match answer(request).await {
                Ok((status, problem)) if status == cell["status"] && problem["code"] == cell["code"] => {}
                Ok((status, problem)) => wrong.push(format!("{status} {problem}")),
                Err(error) => wrong.push(format!("{error:?}")),
            }
        }
        problems.push(wrong);
    }
    Ok(writeln!(std::io::stdout(), "{}", json!(problems))?)
}

async fn answer(request: RequestBuilder) -> reqwest::Result<(u16, Value)> {
    let answer = request.send().await?;
    Ok((answer.status().as_u16(), answer.json().await?))
}

/// The same bytes, sent without their length.
fn in_pieces(form: &Bytes) -> Body {
    let pieces: Vec<Result<Bytes, std::io::Error>> =
        form.chunks(PIECE).map(|piece| Ok(form.slice_ref(piece))).collect();
    Body::wrap_stream(stream::iter(pieces))
}
