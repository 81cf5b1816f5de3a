//! `sluice download`.
//!
//! The bytes go to `MUID.part` in the folder of the result and go on from there after whatever broke, also in a later
//! run. Only when all of it hashes to the muid does it get its name.

mod name;
mod part;

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
};

use clap::Args;
use futures_util::StreamExt;
use reqwest::{
    Response, StatusCode,
    header::{CONTENT_DISPOSITION, CONTENT_RANGE},
};
use secp256k1::SecretKey;
use sluice_common::{l402::Credential, media_token::MediaToken, muid::Muid};

use self::part::PartFile;
use super::{
    ClientError, ServerArgs,
    api::{Api, ApiError, Caller},
    console,
    progress::Progress,
    retry::{self, Backoff},
    state::{self, State},
    units,
};

/// Arguments of `sluice download`.
#[derive(Args)]
pub struct DownloadArgs {
    /// The file's muid, or a media token; what begins with `-` may have to stand after `--`
    #[arg(value_name = "MUID|TOKEN", allow_hyphen_values = true)]
    what: String,
    #[command(flatten)]
    server: ServerArgs,
    /// Where to put it: a file, or a folder [default: the server's name for it, in this folder]
    #[arg(long, short, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
}

// A media token opens the file for whoever has it.
impl std::fmt::Debug for DownloadArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DownloadArgs")
            .field("server", &self.server)
            .field("output", &self.output)
            .finish_non_exhaustive()
    }
}

/// Why there is no download.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The argument.
    #[error("expected a muid (44 characters of base64url) or a media token")]
    NeitherMuidNorToken,
    /// There is a file already.
    #[error("{path}: there is a file already; say --force to replace it, or another --output", path = path.display())]
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// The folder for it is missing.
    #[error("there is no folder {path}", path = path.display())]
    NoFolder {
        /// Which.
        path: PathBuf,
    },
    /// Another run is at it.
    #[error("{path}: another download writes it", path = path.display())]
    Locked {
        /// Which.
        path: PathBuf,
    },
    /// It cannot be written.
    #[error("{path}: {cause}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// Not the content that was asked for.
    #[error(
        "the bytes that came are not the file: they hash to {got} instead of {wanted}; they are removed, try again"
    )]
    OtherContent {
        /// What was asked for.
        wanted: Muid,
        /// What came.
        got: Muid,
    },
    /// The server has none for us.
    #[error("the server has no such file, or not for you")]
    NotFound,
}

/// A file as the user names it.
enum Wanted {
    Own(Muid),
    Token { text: String, muid: Muid },
}

impl Wanted {
    fn parse(text: &str) -> Result<Self, DownloadError> {
        if let Ok(muid) = text.parse() {
            return Ok(Self::Own(muid));
        }
        let token: MediaToken = text.parse().map_err(|_| DownloadError::NeitherMuidNorToken)?;
        Ok(Self::Token { muid: token.terms().muid, text: token.to_string() })
    }

    fn muid(&self) -> Muid {
        match self {
            Self::Own(muid) | Self::Token { muid, .. } => *muid,
        }
    }
}

/// Who may have the file, in the order in which they are asked for it.
#[derive(Debug, Clone)]
enum Source {
    /// Anybody: it is public.
    Public,
    /// Whoever has this key.
    Key(SecretKey),
    /// Whoever bought this token.
    Token(Box<Credential>),
}

/// Downloads, checks, and prints where the file is.
pub(super) async fn run(args: DownloadArgs) -> Result<(), ClientError> {
    let wanted = Wanted::parse(&args.what)?;
    let place = Place { output: args.output, force: args.force };
    place.check_output()?;
    let state = State::open(args.server.state.dir)?;
    let api = Api::new(&args.server.server)?;
    let sources = sources(&wanted, &state, api.server(), args.server.key.as_deref())?;
    let part = PartFile::open(place.dir().join(format!("{}.part", wanted.muid())), wanted.muid()).await?;
    let mut download = Download { api, wanted, place, part, sources };
    let path = download.until_whole().await;
    download.part.remove_if_empty();
    Ok(console::result(path?.display())?)
}

fn sources(wanted: &Wanted, state: &State, server: &str, key: Option<&Path>) -> Result<VecDeque<Source>, ClientError> {
    let key = key.map(state::read_key).transpose()?;
    if let Wanted::Token { .. } = wanted {
        // Any key will do, unless the token names its buyer.
        return Ok([Source::Key(key.map_or_else(|| state.key(), Ok)?)].into());
    }
    let key = key.map_or_else(|| state.existing_key(), |key| Ok(Some(key)))?;
    let tokens = state.tokens()?.into_iter().filter(|token| token.server == server);
    let credentials = tokens.filter_map(|token| token.credential()).map(Box::new).map(Source::Token);
    Ok([Source::Public].into_iter().chain(key.map(Source::Key)).chain(credentials).collect())
}

struct Download {
    api: Api,
    wanted: Wanted,
    place: Place,
    part: PartFile,
    sources: VecDeque<Source>,
}

impl Download {
    async fn until_whole(&mut self) -> Result<PathBuf, ClientError> {
        let mut backoff = Backoff::default();
        loop {
            let len_before = self.part.len();
            let error = match self.attempt().await {
                Ok(path) => return Ok(path),
                Err(ClientError::Api(error)) if retry::is_passing(&error) => error,
                Err(error) => return Err(error),
            };
            if self.part.len() > len_before {
                backoff = Backoff::default();
            }
            if !backoff.wait(&error, retry::max_retries(&error), retry::asked_for(&error)).await {
                return Err(error.into());
            }
        }
    }

    async fn attempt(&mut self) -> Result<PathBuf, ClientError> {
        // All of it is there, for instance after a power cut: only its name is asked for.
        let is_whole = self.part.is_whole();
        let response = match self.ask(if is_whole { 0 } else { self.part.len() }).await {
            Err(ClientError::Api(ApiError::Refused(refusal)))
                if refusal.status == StatusCode::RANGE_NOT_SATISFIABLE =>
            {
                // What is there is no begin of the file.
                self.part.clear().await?;
                self.ask(0).await?
            }
            other => other?,
        };
        let disposition = response.headers().get(CONTENT_DISPOSITION).map(|value| value.as_bytes());
        let server_name = disposition.and_then(name::of_disposition).unwrap_or_else(|| self.wanted.muid().to_string());
        let path = self.place.path(&server_name);
        self.place.check(&path)?;
        if !is_whole {
            self.receive(response).await?;
        }
        self.part.finish(&path, self.place.force).await?;
        console::note(format_args!("downloaded and checked {}", units::size(self.part.len())));
        Ok(path)
    }

    /// Asks the sources in turn, and stays with the first that has it.
    async fn ask(&mut self, offset: u64) -> Result<Response, ClientError> {
        let muid = self.wanted.muid().to_string();
        let etag = format!("\"{muid}\"");
        while let Some(source) = self.sources.front() {
            let (route, caller) = match source {
                Source::Public => ("public", Caller::default()),
                Source::Key(key) => ("file", Caller { jwt: Some(self.api.login(key).await?), credential: None }),
                Source::Token(credential) => {
                    ("file", Caller { jwt: None, credential: Some(credential.as_ref().clone()) })
                }
            };
            let name = match &self.wanted {
                Wanted::Own(_) => &muid,
                Wanted::Token { text, .. } => text,
            };
            match self.api.download(&[route, name], &caller, offset, &etag).await {
                Err(ApiError::Refused(refusal)) if self.sources.len() > 1 && is_none_of_ours(refusal.status) => {
                    self.sources.pop_front();
                }
                Err(ApiError::Refused(refusal)) if refusal.status == StatusCode::NOT_FOUND => {
                    return Err(DownloadError::NotFound.into());
                }
                answer => return Ok(answer?),
            }
        }
        Err(DownloadError::NotFound.into())
    }

    async fn receive(&mut self, response: Response) -> Result<(), ClientError> {
        let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
        if response.status() != StatusCode::PARTIAL_CONTENT {
            self.part.clear().await?;
        } else if range.and_then(range_start) != Some(self.part.len()) {
            return Err(ApiError::NotUnderstood("another range than was asked for").into());
        }
        let left = response.content_length().unwrap_or_default();
        let progress = Progress::new("downloading", self.part.len(), self.part.len() + left);
        let mut pieces = response.bytes_stream();
        let mut outcome = Ok(());
        while let Some(piece) = pieces.next().await {
            let piece = match piece {
                Ok(piece) => piece,
                Err(cause) => {
                    outcome = Err(ApiError::AnswerCutOff(cause.without_url()).into());
                    break;
                }
            };
            self.part.write(&piece).await?;
            progress.advance(piece.len());
        }
        progress.clear();
        self.part.flush().await?;
        outcome
    }
}

/// Whether to ask the next source.
fn is_none_of_ours(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::UNAUTHORIZED | StatusCode::PAYMENT_REQUIRED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND
    )
}

/// Where a `Content-Range` begins.
fn range_start(value: &str) -> Option<u64> {
    value.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}

/// Where the file goes.
struct Place {
    output: Option<PathBuf>,
    force: bool,
}

impl Place {
    /// The folder, in which the part is written too.
    fn dir(&self) -> PathBuf {
        match &self.output {
            None => PathBuf::from("."),
            Some(output) if output.is_dir() => output.clone(),
            Some(output) => match output.parent() {
                Some(parent) if parent != Path::new("") => parent.to_owned(),
                _ => PathBuf::from("."),
            },
        }
    }

    /// The file, which the server may name unless the user did.
    fn path(&self, server_name: &str) -> PathBuf {
        match &self.output {
            None => PathBuf::from(server_name),
            Some(output) if output.is_dir() => output.join(server_name),
            Some(output) => output.clone(),
        }
    }

    /// That nothing would be overwritten, as far as that is known before the server is asked.
    fn check_output(&self) -> Result<(), DownloadError> {
        let dir = self.dir();
        if !dir.is_dir() {
            return Err(DownloadError::NoFolder { path: dir });
        }
        match &self.output {
            Some(output) if !output.is_dir() => self.check(output),
            _ => Ok(()),
        }
    }

    fn check(&self, path: &Path) -> Result<(), DownloadError> {
        if !self.force && path.symlink_metadata().is_ok() {
            return Err(DownloadError::Exists { path: path.to_owned() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
