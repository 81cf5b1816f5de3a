//! The `sluice` command: parses, builds, runs, shuts down.

use std::{
    env,
    io::{self, BufWriter, Write},
    process::ExitCode,
};

use clap::Parser;
use sluice::{
    admin::{self, AdminArgs, AdminError, Gateway, GatewayArgs},
    args::{Arguments, Command, ConfigArgs, FileArgs, PaymentsArgs},
    check_config,
    client::{self, ClientCommand},
    config::{self, ConfigError, Parts, Settings, reachable},
    doctor,
    key_use::{self, KeysCommand},
    keys::rotate,
    logging::{self, LogFormat, LogLevel},
    payments,
    server::{self, Begin},
};
use sluice_common::secret::Secret;
use tikv_jemallocator::Jemalloc;
use time::OffsetDateTime;
use tokio::runtime::Runtime;

/// A third of the processor time of a large upload was spent on giving memory back to the system and taking it again.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    // Two cryptography providers are in the process: whoever asks for the default one first must find it. Fails only
    // where one is set already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let Arguments { command, log_level } = Arguments::parse();
    let done = match command {
        Command::Up(args) => serve(args.into(), log_level, Begin::Anew),
        Command::Gateway(args) => {
            let begin = if args.upgrade { Begin::Upgrade } else { Begin::Anew };
            serve(args.gateway.into(), log_level, begin)
        }
        Command::Backend(args) => serve(args.into(), log_level, Begin::Anew),
        Command::Payments(args) => payments(args, log_level),
        Command::CheckConfig(args) => check(args.into_config(Parts::All), log_level),
        Command::Admin(args) => run_admin(args, log_level),
        Command::Keys(command) => run_keys(command, log_level),
        Command::Doctor(args) => doctor(args.into(), log_level),
        Command::Client(command) => run_client(command, log_level),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With standard error closed there is nobody to tell.
            let _ = writeln!(io::stderr(), "sluice: {}", client::escaped(&error.to_string()));
            error.downcast_ref().map_or(ExitCode::FAILURE, |error: &AdminError| error.exit_code().into())
        }
    }
}

fn serve(args: ConfigArgs, log_level: Option<LogLevel>, begin: Begin) -> anyhow::Result<()> {
    let parts = args.parts;
    let settings = load(args.clone(), log_level)?;
    let _log = logging::init(settings.log.level, settings.log.format)?;
    let runtime = Runtime::new()?;
    let done = runtime.block_on(server::run(settings, parts, begin, &|| load(args.clone(), log_level)));
    // Who was told to hurry does not wait for tasks either.
    runtime.shutdown_background();
    Ok(done?)
}

fn check(args: ConfigArgs, log_level: Option<LogLevel>) -> anyhow::Result<()> {
    let settings = load(args, log_level)?;
    let _log = logging::init(LogLevel::Warn, LogFormat::Text)?;
    Ok(check_config::run(&settings, &mut io::stdout().lock())?)
}

fn run_keys(command: KeysCommand, log_level: Option<LogLevel>) -> anyhow::Result<()> {
    let _log = logging::init(log_level.unwrap_or(LogLevel::Warn), LogFormat::Text)?;
    let (files, forgotten) = match command {
        KeysCommand::Rotate(mut args) => {
            let files = std::mem::take(&mut args.files);
            let settings = load(files.into_config(Parts::All), log_level)?;
            return Ok(rotate::run(&settings, &args, OffsetDateTime::now_utc(), &mut io::stdout().lock())?);
        }
        KeysCommand::List(files) => (files, None),
        KeysCommand::Forget { name, fingerprint, files } => (files, Some((name, fingerprint))),
    };
    let settings = load(files.into_config(Parts::All), log_level)?;
    let mut out = io::stdout();
    Ok(Runtime::new()?.block_on(async {
        match forgotten {
            None => key_use::list(&settings, &mut out).await,
            Some((name, fingerprint)) => key_use::forget(&settings, name, fingerprint, &mut out).await,
        }
    })?)
}

fn run_admin(mut args: AdminArgs, log_level: Option<LogLevel>) -> anyhow::Result<()> {
    let _log = logging::init(log_level.unwrap_or(LogLevel::Warn), LogFormat::Text)?;
    let GatewayArgs { config, data, .. } = args.gateway.clone();
    let settings = match config {
        Some(_) => load(FileArgs { config, data }.into_config(Parts::Gateway), log_level)?,
        None => Settings { data_dir: data.unwrap_or_else(|| Settings::default().data_dir), ..Settings::default() },
    };
    args.gateway.token = env::var("SLUICE_ADMIN_TOKEN").ok().filter(|token| !token.is_empty()).map(Secret::new);
    let gateway = Gateway::new(&args.gateway, &settings.data_dir, reachable(settings.gateway.admin_listen))?;
    Ok(Runtime::new()?.block_on(admin::run(args, &gateway))?)
}

fn doctor(args: ConfigArgs, log_level: Option<LogLevel>) -> anyhow::Result<()> {
    let settings = load(args, log_level)?;
    let _log = logging::init(LogLevel::Warn, LogFormat::Text)?;
    Ok(Runtime::new()?.block_on(doctor::run(&settings, &mut io::stdout().lock()))?)
}

fn payments(args: PaymentsArgs, log_level: Option<LogLevel>) -> anyhow::Result<()> {
    let settings = load(args.files.into_config(Parts::Gateway), log_level)?;
    let _log = logging::init(LogLevel::Warn, LogFormat::Text)?;
    let mut out = BufWriter::new(io::stdout());
    Ok(Runtime::new()?.block_on(payments::run(&settings, &args.selection, &mut out))?)
}

fn run_client(command: ClientCommand, log_level: Option<LogLevel>) -> anyhow::Result<()> {
    let _log = logging::init(log_level.unwrap_or(LogLevel::Warn), LogFormat::Text)?;
    Ok(Runtime::new()?.block_on(client::run(command))?)
}

fn load(args: ConfigArgs, log_level: Option<LogLevel>) -> Result<Settings, ConfigError> {
    let ConfigArgs { file, mut flags, parts } = args;
    flags.log_level = log_level;
    config::load(file.as_deref(), &|name| env::var_os(name), &flags, parts)
}
