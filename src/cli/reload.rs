//! `reload`: berthd reads its configuration and all specs again.

use std::{io::Write, time::Duration};

use super::{
    CliError, Context, Exit,
    client::{Client, ClientError},
};
use crate::protocol::{Reply, Request};

/// How long reading may take: ten thousand specs take seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs the verb.
///
/// # Errors
/// berthd cannot be reached, or refuses; what was in force stays in force.
pub fn run(cx: &Context, out: &mut dyn Write) -> Result<Exit, CliError> {
    match Client::connect(&cx.root)?.ask(&Request::Reload, Some(PATIENCE))? {
        Reply::Done => writeln!(out, "reloaded")?,
        Reply::Error { message } => return Err(CliError::Refused(message)),
        other => return Err(ClientError::unexpected(&other).into()),
    }
    Ok(Exit::Ok)
}
