//! Rules for a root of the container's own.

use super::report::Report;
use crate::{
    image::Source,
    source::Complaint,
    spec::{Image, MachineId, fragment::ImageFragment},
};

/// `[image]`.
pub fn image(fragment: Option<ImageFragment>, report: &mut Report<'_>) -> Option<Image> {
    let ImageFragment { source, read_only, writable, pull } = fragment?;
    let Some(source) = source else {
        report.error(
            "image",
            Complaint::new("source is missing").help("write source = \"docker://NAME:TAG\" or \"rootfs:/a/directory\""),
        );
        return None;
    };
    let source = match source.parse::<Source>() {
        Ok(source) => source,
        Err(error) => {
            report.error("image.source", Complaint::new(error.message).help(error.help));
            return None;
        }
    };
    let (read_only, mut writable) = (read_only.unwrap_or(false), writable.unwrap_or(false));
    if read_only && writable {
        let complaint = Complaint::new("a root that is `read_only` is not `writable`");
        report.conflict("image.writable", "image.read_only", complaint);
        writable = false;
    }
    if writable && !matches!(source, Source::Rootfs { .. }) {
        let complaint = Complaint::new("an image is shared and cannot be changed; only a `rootfs:` is `writable`");
        report.error("image.writable", complaint.help("leave it out: changes go to a directory of the run's own"));
    }
    if pull.is_some() && matches!(source, Source::Rootfs { .. }) {
        let complaint = Complaint::new("a directory is used as it is; there is nothing to pull");
        report.error("image.pull", complaint.help("leave it out"));
    }
    Some(Image { source, read_only, writable, pull: pull.unwrap_or_default() })
}

/// What the container calls itself: the kernel takes 64 bytes, and names of hosts have a form (hostname(7)).
pub fn hostname(name: Option<String>, has_image: bool, report: &mut Report<'_>) -> Option<String> {
    let name = name?;
    let label = |label: &str| {
        let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        !label.is_empty() && inner && !label.starts_with('-') && !label.ends_with('-')
    };
    if name.len() > 64 || !name.split('.').all(label) {
        let complaint = Complaint::new("this is no name of a host");
        report.error("hostname", complaint.help("write up to 64 letters, digits, `-` and `.`"));
        return None;
    }
    if !has_image {
        report.error("hostname", needs_image("a hostname of its own"));
        return None;
    }
    Some(name)
}

/// Which machine the container says it is.
pub fn machine_id(choice: Option<MachineId>, has_image: bool, report: &mut Report<'_>) -> MachineId {
    let choice = choice.unwrap_or_default();
    if choice != MachineId::Image && !has_image {
        report.error("machine_id", needs_image("a choice of /etc/machine-id"));
        return MachineId::Image;
    }
    choice
}

/// What only a root of the container's own can have.
fn needs_image(what: &str) -> Complaint {
    Complaint::new(format!("{what} needs a root of the container's own")).help("write [image] with a source")
}
