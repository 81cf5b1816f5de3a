//! `upload_and_pay FILE`: uploads it, and pays with `sluice pay`. Needs reqwest (features "multipart", "stream", "json"),
//! tokio (feature "full") and serde_json.

use std::{env, error::Error, io::Write};

use reqwest::{Client, Response, StatusCode, header::AUTHORIZATION, multipart::Form};
use serde_json::Value;
use tokio::process::Command;

async fn upload(path: &str, authorization: Option<String>) -> Result<Response, Box<dyn Error>> {
    let server = env::var("SLUICE_SERVER").unwrap_or("http://127.0.0.1:8081".to_owned());
    let request = Client::new().post(format!("{server}/largefile")).multipart(Form::new().file("file", path).await?);
    let request = authorization.into_iter().fold(request, |request, value| request.header(AUTHORIZATION, value));
    Ok(request.send().await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).ok_or("which file?")?;
    let mut response = upload(&path, None).await?;
    if response.status() == StatusCode::PAYMENT_REQUIRED {
        let offer: Value = response.json().await?;
        let (macaroon, invoice) = (offer["macaroon"].as_str(), offer["invoice"].as_str());
        let paid = Command::new("sluice").args(["pay", invoice.ok_or("no invoice")?]).output().await?;
        if !paid.status.success() {
            return Err(String::from_utf8(paid.stderr)?.into());
        }
        let preimage = String::from_utf8(paid.stdout)?;
        let authorization = format!("L402 {}:{}", macaroon.ok_or("no macaroon")?, preimage.trim());
        response = upload(&path, Some(authorization)).await?;
    }
    let stored = response.error_for_status()?.text().await?;
    Ok(writeln!(std::io::stdout(), "{stored}")?)
}
