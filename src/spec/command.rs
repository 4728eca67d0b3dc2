//! placeholder until merge
use super::Command;
/// Image.
#[derive(Debug, Default)]
pub struct ImageCommand {}
/// Resolve.
///
/// # Errors
/// Nothing to run.
pub fn resolve(command: &Command, _image: &ImageCommand) -> Result<(String, Vec<String>), std::io::Error> {
    let value = command.value.clone().ok_or_else(|| std::io::Error::other("no executable"))?;
    if command.shell {
        return Ok(("/bin/sh".to_owned(), vec!["/bin/sh".to_owned(), "-c".to_owned(), value]));
    }
    let argv = if command.arguments.is_empty() { vec![value.clone()] } else { command.arguments.clone() };
    Ok((value, argv))
}
