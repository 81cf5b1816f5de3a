//! `sluice upload`.
//!
//! A file of up to 32 MB goes to the free route first; when that takes less, or the file is larger, to the paid one.
//! Every attempt begins with a look at what the server has: a file that is stored for this owner already, perhaps by an
//! attempt whose answer was lost, is neither sent nor paid again. What the user says of it now is changed; what the user
//! does not say stays, so that none loses its price or its readers unnoticed.

mod choice;
mod file;
mod form;

use std::{path::PathBuf, time::Duration};

use clap::Args;
use reqwest::StatusCode;
use secp256k1::SecretKey;
use sluice_common::{l402::PaymentHash, secret::Secret};

pub use self::file::FileError;
use self::{
    choice::{Next, Route, Verdict},
    file::LocalFile,
    form::Details,
};
use super::{
    ClientError, ServerArgs,
    api::{Api, ApiError, Caller, Media},
    console,
    progress::Progress,
    purchase::{PaymentArgs, Purchase, PurchaseError},
    retry::Backoff,
    state::{self, SavedToken, State},
    units,
};

/// How long nothing may move before an upload counts as lost. Long, for a server may hash and sync after the last byte.
const STALLED_AFTER: Duration = Duration::from_secs(120);

/// Arguments of `sluice upload`.
#[derive(Debug, Args)]
pub struct UploadArgs {
    /// The file
    file: PathBuf,
    #[command(flatten)]
    details: Details,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    payment: PaymentArgs,
    /// Take the paid route, however small the file is
    #[arg(long)]
    paid: bool,
    /// Print what the server says of the file, as JSON
    #[arg(long)]
    json: bool,
}

/// Uploads, and prints the muid and a link.
pub(super) async fn run(args: UploadArgs) -> Result<(), ClientError> {
    let details = args.details.clone().normalised();
    let state = State::open(args.server.state.dir.clone())?;
    let key = match &args.server.key {
        Some(path) => state::read_key(path)?,
        None => state.key()?,
    };
    let api = Api::new(&args.server.server)?;
    let file = LocalFile::open(&args.file).await?;
    let route = Route::first_for(file.len(), args.paid);
    let mut upload = Upload {
        args: &args,
        details,
        state,
        key,
        api,
        file,
        route,
        jwt: None,
        has_logged_in_again: false,
        has_bought: false,
        passed_over: Vec::new(),
    };
    let stored = upload.until_stored().await;
    if stored.is_err() && upload.has_bought {
        console::note("what was paid for is kept: the same command sends the file with it, and pays for nothing more");
    }
    let media = stored?;
    if args.json {
        console::result(&media.json)?;
    } else {
        console::result(format_args!("{}\n{}", media.muid, upload.api.link(media.muid, media.public)))?;
    }
    Ok(())
}

struct Upload<'a> {
    args: &'a UploadArgs,
    details: Details,
    state: State,
    key: SecretKey,
    api: Api,
    file: LocalFile,
    route: Route,
    jwt: Option<Secret<String>>,
    has_logged_in_again: bool,
    has_bought: bool,
    /// Saved tokens that bought nothing in this run.
    passed_over: Vec<PaymentHash>,
}

impl Upload<'_> {
    async fn until_stored(&mut self) -> Result<Media, ClientError> {
        let mut backoff = Backoff::default();
        loop {
            let error = match self.attempt().await {
                Ok(media) => return Ok(media),
                Err(error) => error,
            };
            match choice::next(&error, self.route, self.has_logged_in_again) {
                Next::Fail => return Err(error),
                Next::LogInAgain => {
                    self.jwt = None;
                    self.has_logged_in_again = true;
                }
                Next::TakePaidRoute => {
                    console::note("too large for the free route: taking the paid one");
                    self.route = Route::Paid;
                }
                Next::TryLater { max_retries, asked_for } => {
                    if !backoff.wait(&error, max_retries, asked_for).await {
                        return Err(error);
                    }
                }
            }
        }
    }

    async fn attempt(&mut self) -> Result<Media, ClientError> {
        let caller = Caller { jwt: Some(self.jwt().await?), credential: None };
        if let Some(media) = self.api.my_media(&caller, self.file.muid()).await? {
            if self.can_be_read(&caller).await? {
                return self.keep(&caller, media).await;
            }
            console::note("the server has stored this file for you already, but cannot read it: sending it again");
            self.details = self.details.clone().or_stored(&media);
        }
        match self.route {
            Route::Free => self.send(if self.details.public == Some(true) { "public" } else { "file" }, &caller).await,
            Route::Paid => self.attempt_paid(caller).await,
        }
    }

    /// Whether the server can read its copy: an upload takes the place of one that it cannot.
    async fn can_be_read(&self, caller: &Caller) -> Result<bool, ApiError> {
        let muid = self.file.muid().to_string();
        // Its last byte will do.
        match self.api.download(&["file", &muid], caller, self.file.len() - 1, &format!("\"{muid}\"")).await {
            Ok(_) => Ok(true),
            Err(ApiError::Refused(refusal)) if refusal.code == "file_unavailable" => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What the server has stored stays, with what is said of it now.
    async fn keep(&self, caller: &Caller, stored: Media) -> Result<Media, ClientError> {
        let whose = if stored.public { "public" } else { "for you alone" };
        console::note(format_args!("the server has stored this file for you already ({whose}): not sent again"));
        let unlike = self.details.unlike(&stored.json);
        if unlike.is_empty() {
            return Ok(stored);
        }
        let changed = self.api.change(caller, stored.muid, &self.details.change(&unlike)).await?;
        for member in unlike {
            let (before, now) = (&stored.json[member], &changed.json[member]);
            console::note(format_args!("changed {member}: {now} (it was {before})"));
        }
        Ok(changed)
    }

    async fn attempt_paid(&mut self, mut caller: Caller) -> Result<Media, ClientError> {
        let token = match self.saved_token().await? {
            Some(token) => Some(token),
            None => self.buy().await?,
        };
        // For nothing, it is the login's.
        let Some(mut token) = token else { return self.send("largefile", &caller).await };
        let last_uploading = token.uploading.replace(self.file.muid());
        self.state.save(&token)?;
        caller.credential = token.credential();
        let answer = self.send("largefile", &caller).await;
        token.uploading = match &answer {
            Ok(_) => None,
            // Refused, so nothing of this attempt is under way.
            Err(ClientError::Api(ApiError::Refused(refusal))) if refusal.status.is_client_error() => last_uploading,
            Err(_) => token.uploading,
        };
        // Whatever is said of it, here it buys nothing.
        if let Err(ClientError::Api(ApiError::Refused(refusal))) = &answer
            && refusal.status == StatusCode::PAYMENT_REQUIRED
        {
            self.passed_over.push(token.payment_hash);
        }
        if let Err(error) = self.state.save(&token) {
            console::note(format_args!("warning: {error}"));
        }
        answer
    }

    /// A saved token that buys this upload, if there is such a one.
    async fn saved_token(&self) -> Result<Option<SavedToken>, ClientError> {
        for mut token in self.state.tokens()? {
            let is_passed_over = self.passed_over.contains(&token.payment_hash);
            if token.server != self.api.server() || !token.may_buy() || is_passed_over {
                continue;
            }
            let caller = Caller { jwt: None, credential: token.credential() };
            let status = match self.api.token_status(&caller).await {
                Ok(status) => status,
                Err(ApiError::Refused(refusal)) if refusal.status == StatusCode::UNAUTHORIZED => {
                    console::note(format_args!("saved token {} is passed over: {refusal}", token.short_name()));
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            match Verdict::of(&status, self.file.len()) {
                Verdict::Buys => {
                    console::note(format_args!("using saved token {}", token.short_name()));
                    return Ok(Some(token));
                }
                Verdict::Ended(reason) => {
                    console::note(format_args!("saved token {} buys no more: {reason}", token.short_name()));
                    token.ended = Some(reason.to_owned());
                    self.state.save(&token)?;
                }
                // Perhaps the very upload whose answer was lost: to buy another token would be to pay twice.
                Verdict::InUse if token.uploading == Some(self.file.muid()) => return Err(PurchaseError::InUse.into()),
                Verdict::InUse | Verdict::TooSmall | Verdict::NotCovered => {}
            }
        }
        Ok(None)
    }

    /// A new token; at most one in a run. None: it costs nothing.
    async fn buy(&mut self) -> Result<Option<SavedToken>, ClientError> {
        if self.has_bought {
            return Err(PurchaseError::BoughtInVain.into());
        }
        let purchase = Purchase { api: &self.api, state: &self.state, args: &self.args.payment, size: self.file.len() };
        let token = purchase.make().await?;
        self.has_bought = token.is_some();
        Ok(token)
    }

    async fn send(&self, route: &str, caller: &Caller) -> Result<Media, ClientError> {
        let progress = Progress::new("uploading", 0, self.file.len());
        let stream = self.file.stream(progress.clone()).await?;
        let form = form::form(&self.details, &self.file.name(), self.file.len(), stream);
        let answer = progress.watch(STALLED_AFTER, self.api.upload(route, caller, form)).await;
        progress.clear();
        let media = answer.map_err(ApiError::from)??;
        if media.muid != self.file.muid() {
            return Err(FileError::StoredOther { sent: self.file.muid(), stored: media.muid }.into());
        }
        console::note(format_args!("stored {} ({})", self.file.name(), units::size(self.file.len())));
        Ok(media)
    }

    async fn jwt(&mut self) -> Result<Secret<String>, ClientError> {
        if let Some(jwt) = &self.jwt {
            return Ok(jwt.clone());
        }
        let jwt = self.api.login(&self.key).await?;
        self.jwt = Some(jwt.clone());
        Ok(jwt)
    }
}
