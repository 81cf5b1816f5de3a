//! The command line.

use std::{net::SocketAddr, num::NonZeroU64, path::PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::{
    admin::AdminArgs,
    client::ClientCommand,
    config::{Flags, Parts},
    key_use::KeysCommand,
    logging::LogLevel,
    payments,
};

/// Sell uploads over Lightning: gateway, media server and client in one command
#[derive(Debug, Parser)]
#[command(name = "sluice", version, arg_required_else_help = true)]
pub struct Arguments {
    /// What is logged, and all that is more severe: error, warn, info, debug or trace [default: info, clients warn]
    #[arg(long, value_name = "LEVEL", global = true)]
    pub log_level: Option<LogLevel>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `sluice` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything in one process: gateway, media server and, if no node is configured, a wallet to try it with
    Up(UpArgs),
    /// Run the gateway alone
    Gateway(GatewayAloneArgs),
    /// Run the media server alone
    Backend(BackendArgs),
    /// List what was paid
    Payments(PaymentsArgs),
    /// Ask a gateway that runs, and revoke tokens
    Admin(AdminArgs),
    /// Check the configuration and print what it comes to, without its keys
    CheckConfig(FileArgs),
    /// See which keys the databases were used with, give one up, and make a new master key
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Look at everything that a start needs, one by one, and say how to mend what is wrong
    Doctor(UpArgs),
    /// What clients do.
    #[command(flatten)]
    Client(ClientCommand),
}

/// Where the configuration and the data are.
#[derive(Debug, Default, Args)]
pub struct FileArgs {
    /// The configuration file; config/sluice.toml shows all that can stand there [default: none]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The folder for databases, files and keys [default: sluice-data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// An LND node, where the file names none or another.
#[derive(Debug, Args)]
pub struct LndArgs {
    /// Take payment through the LND node whose gRPC interface is here, and not with the embedded wallet
    #[arg(long, value_name = "HOST:PORT")]
    pub lnd: Option<String>,
    /// Its certificate, tls.cert
    #[arg(long, value_name = "FILE")]
    pub lnd_tls_cert: Option<PathBuf>,
    /// A macaroon of it; invoice.macaroon suffices
    #[arg(long, value_name = "FILE")]
    pub lnd_macaroon: Option<PathBuf>,
}

/// `sluice up`
#[derive(Debug, Args)]
pub struct UpArgs {
    /// `sluice gateway` has the same.
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// Where the media server listens [default: 127.0.0.1:8083]
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub backend_listen: Option<SocketAddr>,
    /// What a token costs, in satoshi, where just one service is sold [default: 100]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub price_sat: Option<NonZeroU64>,
    /// The largest file that a token stores, in MB, where just one service is sold [default: 4096]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub max_mb: Option<NonZeroU64>,
}

/// Of `sluice gateway` and `sluice up`.
#[derive(Debug, Args)]
pub struct GatewayArgs {
    /// Where from.
    #[command(flatten)]
    pub files: FileArgs,
    /// Where the gateway listens for clients [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub listen: Option<SocketAddr>,
    /// Where it listens for whoever runs it [default: 127.0.0.1:8082]
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub admin_listen: Option<SocketAddr>,
    /// Who takes the payments.
    #[command(flatten)]
    pub lnd: LndArgs,
}

/// `sluice gateway`
#[derive(Debug, Args)]
pub struct GatewayAloneArgs {
    /// What `sluice up` has, too.
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// Take over from the gateway that runs on this data folder: its addresses, with none of its uploads cut
    #[arg(long)]
    pub upgrade: bool,
}

/// `sluice backend`
#[derive(Debug, Args)]
pub struct BackendArgs {
    /// Where from.
    #[command(flatten)]
    pub files: FileArgs,
    /// Where it listens [default: 127.0.0.1:8083; with PORT in the environment, that port of every address]
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub listen: Option<SocketAddr>,
}

/// `sluice payments`
#[derive(Debug, Args)]
pub struct PaymentsArgs {
    /// Where from.
    #[command(flatten)]
    pub files: FileArgs,
    /// Which payments, and how they are written.
    #[command(flatten)]
    pub selection: payments::Selection,
}

/// A flag's text is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum InvalidFlag {
    #[error("expected IP:PORT, for instance 127.0.0.1:8081")]
    Address,
    #[error("expected a whole number of at least 1")]
    NotPositive,
}

fn address(text: &str) -> Result<SocketAddr, InvalidFlag> {
    text.parse().map_err(|_| InvalidFlag::Address)
}

fn positive(text: &str) -> Result<NonZeroU64, InvalidFlag> {
    text.parse().map_err(|_| InvalidFlag::NotPositive)
}

/// What a command says of the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigArgs {
    /// The file, if any.
    pub file: Option<PathBuf>,
    /// What goes over all else.
    pub flags: Flags,
    /// Which parts it is for.
    pub parts: Parts,
}

impl FileArgs {
    /// These alone, for `parts`.
    pub fn into_config(self, parts: Parts) -> ConfigArgs {
        ConfigArgs { file: self.config, flags: Flags { data_dir: self.data, ..Flags::default() }, parts }
    }
}

impl LndArgs {
    fn apply(self, flags: &mut Flags) {
        flags.lnd = self.lnd;
        flags.lnd_tls_cert = self.lnd_tls_cert;
        flags.lnd_macaroon = self.lnd_macaroon;
    }
}

impl From<UpArgs> for ConfigArgs {
    fn from(args: UpArgs) -> Self {
        let mut config = Self { parts: Parts::All, ..args.gateway.into() };
        config.flags.backend_listen = args.backend_listen;
        config.flags.price_sat = args.price_sat;
        config.flags.max_mb = args.max_mb;
        config
    }
}

impl From<GatewayArgs> for ConfigArgs {
    fn from(args: GatewayArgs) -> Self {
        let mut config = args.files.into_config(Parts::Gateway);
        args.lnd.apply(&mut config.flags);
        config.flags.listen = args.listen;
        config.flags.admin_listen = args.admin_listen;
        config
    }
}

impl From<BackendArgs> for ConfigArgs {
    fn from(args: BackendArgs) -> Self {
        let mut config = args.files.into_config(Parts::Backend);
        config.flags.backend_listen = args.listen;
        config
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn flags_reach_the_configuration() {
        let line = "sluice up --config f --data d --listen 127.0.0.1:1 --admin-listen [::1]:2 --backend-listen 127.0.0.1:3 --price-sat 4 --max-mb 5 --lnd n:10009 --lnd-tls-cert c --lnd-macaroon m --log-level debug";
        let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
        assert_eq!(arguments.log_level, Some(LogLevel::Debug));
        let Command::Up(args) = arguments.command else { panic!("another command") };
        let address = |text: &str| Some(text.parse().unwrap());
        let flags = Flags {
            data_dir: Some("d".into()),
            log_level: None,
            listen: address("127.0.0.1:1"),
            admin_listen: address("[::1]:2"),
            backend_listen: address("127.0.0.1:3"),
            price_sat: NonZeroU64::new(4),
            max_mb: NonZeroU64::new(5),
            lnd: Some("n:10009".into()),
            lnd_tls_cert: Some("c".into()),
            lnd_macaroon: Some("m".into()),
        };
        assert_eq!(ConfigArgs::from(args), ConfigArgs { file: Some("f".into()), flags, parts: Parts::All });
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        for line in [
            "sluice",
            "sluice up --price-sat 0",
            "sluice up --listen 8081",
            "sluice gateway --max-mb 1",
            "sluice up --upgrade",
        ] {
            assert!(Arguments::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
        for (line, expected) in [
            ("sluice up --price-sat 0", "expected a whole number of at least 1"),
            ("sluice up --max-mb many", "expected a whole number of at least 1"),
            ("sluice up --listen banana", "expected IP:PORT, for instance 127.0.0.1:8081"),
        ] {
            let error = Arguments::try_parse_from(line.split(' ')).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
