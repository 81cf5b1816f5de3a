//! The name under which the server is reached: it stands in media tokens, so others must be able to use it.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use reqwest::Client;

use super::Finding;
use crate::config::Settings;

const ADDRESS: &str = "address";

/// How to mend a name that is no good.
const SET_HOST: &str = "set [backend] host (HOST) to the name by which clients reach the gateway";

/// How long the server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks the server by its name, as anybody would.
pub(super) async fn look(settings: &Settings) -> Finding {
    let host = settings.host();
    if let Some(finding) = by_itself(&host) {
        return finding;
    }
    let Ok(client) = Client::builder().timeout(TIMEOUT).build() else {
        return Finding::warning(ADDRESS, format!("{host} cannot be tried: no HTTP client"));
    };
    for scheme in ["https", "http"] {
        let url = format!("{scheme}://{host}/ping");
        let Ok(answer) = client.get(&url).send().await else { continue };
        if answer.text().await.is_ok_and(|text| text.contains("pong")) {
            return Finding::ok(ADDRESS, format!("{url} answers"));
        }
        return Finding::warning(ADDRESS, format!("{url} answers, but not as Sluice does"));
    }
    Finding::warning(ADDRESS, format!("nothing answers at http(s)://{host}/ping: start Sluice, or {SET_HOST}"))
}

/// What a name alone says.
fn by_itself(host: &str) -> Option<Finding> {
    let bare = host.parse().map(|address: SocketAddr| address.ip()).or_else(|_| host.parse::<IpAddr>()).ok();
    let is_local = bare.is_some_and(|ip| ip.is_loopback()) || host.split(':').next() == Some("localhost");
    if bare.is_some_and(|ip| ip.is_unspecified()) {
        return Some(Finding::error(ADDRESS, format!("media tokens name {host}, where nobody is; {SET_HOST}")));
    }
    is_local.then(|| {
        Finding::warning(ADDRESS, format!("media tokens name {host}, which only this machine reaches; {SET_HOST}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_names_are_no_good_to_others() {
        let said = |host: &str| by_itself(host).map(|finding| finding.level);
        for host in ["127.0.0.1:8081", "127.0.0.1", "[::1]:80", "localhost", "localhost:80"] {
            assert_eq!(said(host), Some(super::super::Level::Warning), "{host}");
        }
        for host in ["0.0.0.0:8081", "[::]:8081"] {
            assert_eq!(said(host), Some(super::super::Level::Error), "{host}");
        }
        for host in ["media.example", "media.example:8081", "10.0.0.1:1"] {
            assert_eq!(said(host), None, "{host}");
        }
    }
}
