//! `net`: the handle of a container's packets, and lines for the tools that act on it.

use std::io::Write;

use serde::Serialize;

use super::{CliError, Context, Exit, json, known, name, style, style::Hue};
use crate::{
    host::{
        Host,
        network::{default_interface, has_module},
    },
    observe::NetCls,
    spec::{Handle, Name},
};

/// Arguments of `net`.
#[derive(Debug, clap::Args)]
pub struct NetArgs {
    /// The container, by name or unit
    #[arg(value_parser = name)]
    pub name: Name,
    /// The interface to shape; default: that of the default route
    #[arg(long, value_name = "IFACE")]
    pub interface: Option<String>,
    /// The rate of its class, as tc(8) takes it
    #[arg(long, default_value = "10mbit")]
    pub rate: String,
}

/// A container's handle and what can be done with it; with `--json` it is the output.
#[derive(Debug, Serialize)]
struct Sheet {
    /// The container.
    name: Name,
    /// The handle as berth writes it.
    handle: String,
    /// The same in others' words.
    #[serde(flatten)]
    net_cls: NetCls,
    /// Lines to paste, by what they are for.
    commands: Vec<Commands>,
}

/// Lines for one tool.
#[derive(Debug, Serialize)]
struct Commands {
    /// Which.
    tool: &'static str,
    /// What they do, in a few words.
    purpose: String,
    /// The lines.
    lines: Vec<String>,
}

/// Runs the verb.
///
/// # Errors
/// There is no such container, it has no handle, the state file cannot be read, or the output cannot be written.
pub fn run(cx: &Context, args: &NetArgs, out: &mut dyn Write) -> Result<Exit, CliError> {
    let known = known::read(&cx.root)?;
    known.caution(cx);
    let container = known.container(&args.name).ok_or_else(|| known.no_such(&args.name))?;
    let Some(net_cls) = container.container_status.cgroup_info.as_ref().and_then(|info| info.net_cls.clone()) else {
        return Err(CliError::Refused(format!(
            "'{}' has no handle: it does not run, or the isolator cgroups/net_cls is not enabled, or its spec says \
             handle = \"none\"; see 'berthctl plan {}' and 'berthctl doctor'",
            args.name, args.name
        )));
    };
    let sheet = sheet(&Host::read(&cx.root), args, net_cls);
    if cx.json {
        json(out, &sheet)?;
    } else {
        show(cx, &sheet, out)?;
    }
    Ok(Exit::Ok)
}

/// Everything about a handle on this host.
fn sheet(host: &Host, args: &NetArgs, net_cls: NetCls) -> Sheet {
    let interface = args.interface.clone().or_else(|| default_interface(&host.root)).unwrap_or_else(|| "lo".to_owned());
    let tagged = Tagged { name: &args.name, by_class: net_cls.backends.iter().any(|backend| backend == "net_cls") };
    let commands = vec![
        tagged.nft(&net_cls),
        tagged.iptables(&net_cls),
        tagged.tc(&net_cls, &interface, &args.rate, has_module(host, "cls_cgroup")),
    ];
    Sheet { name: args.name.clone(), handle: Handle(net_cls.classid).to_string(), net_cls, commands }
}

/// How the packets of a container can be told.
struct Tagged<'a> {
    /// Whose.
    name: &'a Name,
    /// By the class of their cgroup; else by their mark.
    by_class: bool,
}

impl Tagged<'_> {
    /// The match of nft(8).
    fn matched(&self, net_cls: &NetCls) -> String {
        format!("meta {} {}", if self.by_class { "cgroup" } else { "mark" }, net_cls.hex)
    }

    /// Lines for nft(8).
    fn nft(&self, net_cls: &NetCls) -> Commands {
        let rule = format!("{} counter comment '\"{}\"'", self.matched(net_cls), self.name);
        Commands {
            tool: "nft",
            purpose: "count what it sends; put drop, reject or limit behind the match to filter".to_owned(),
            lines: vec![
                "nft add table inet containers".to_owned(),
                "nft add chain inet containers output '{ type filter hook output priority filter; }'".to_owned(),
                format!("nft add rule inet containers output {rule}"),
            ],
        }
    }

    /// Lines for iptables(8) and its sister.
    fn iptables(&self, net_cls: &NetCls) -> Commands {
        let matched = if self.by_class { "-m cgroup --cgroup" } else { "-m mark --mark" };
        let line = |tool: &str| {
            format!("{tool} -A OUTPUT {matched} {} -m comment --comment {} -j ACCEPT", net_cls.hex, self.name)
        };
        Commands { tool: "iptables", purpose: "the same".to_owned(), lines: ["iptables", "ip6tables"].map(line).into() }
    }

    /// Lines for tc(8): a class of HTB whose number is the handle.
    fn tc(&self, net_cls: &NetCls, interface: &str, rate: &str, has_classifier: bool) -> Commands {
        let major = net_cls.class.split(':').next().unwrap_or_default();
        let mut lines = vec![
            // HTB takes no change, so the second container's "replace" would fail; "add" spares what others have put there.
            format!(
                "tc qdisc show dev {interface} root | grep -q '^qdisc htb {major}: ' || \
                 tc qdisc add dev {interface} root handle {major}: htb"
            ),
            format!("tc class replace dev {interface} parent {major}: classid {} htb rate {rate}", net_cls.class),
        ];
        let how = match (self.by_class, has_classifier) {
            (false, _) => "HTB takes the priority, which is the handle, for the class",
            (true, true) => {
                let filter = format!("parent {major}: protocol all pref 1 handle 1 cgroup");
                lines.push(format!("tc filter replace dev {interface} {filter}"));
                "one filter serves all containers"
            }
            (true, false) => {
                let chain = "'{ type filter hook postrouting priority filter; }'";
                lines.push("nft add table inet containers".to_owned());
                lines.push(format!("nft add chain inet containers shape {chain}"));
                let rule = format!("{} meta priority set {}", self.matched(net_cls), net_cls.class);
                lines.push(format!("nft add rule inet containers shape {rule}"));
                "this kernel has no classifier 'cgroup', so nft sets the priority, which HTB takes for the class"
            }
        };
        Commands { tool: "tc", purpose: format!("shape what it sends on {interface}; {how}"), lines }
    }
}

/// Writes a sheet for people, whole lines to paste.
fn show(cx: &Context, sheet: &Sheet, out: &mut dyn Write) -> Result<(), CliError> {
    let NetCls { classid, hex, class, backends } = &sheet.net_cls;
    let name = cx.style.paint(Hue::Strong, sheet.name.as_str());
    writeln!(out, "{name}: {}  classid {classid}  {hex}  class {class}  by {}", sheet.handle, backends.join(" and "))?;
    for commands in &sheet.commands {
        let heading = format!("# {}: {}", commands.tool, style::plain(&commands.purpose));
        writeln!(out, "\n{}", cx.style.paint(Hue::Quiet, &heading))?;
        for line in &commands.lines {
            writeln!(out, "{}", style::plain(line))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::Root;

    /// The lines for a container tagged by these backends, on a host with these files.
    fn lines(backends: &[&str], files: &[(&str, &str)]) -> Vec<String> {
        let world = tempfile::tempdir().unwrap();
        let root = Root::new(world.path());
        for (path, text) in files {
            std::fs::create_dir_all(root.at(path).parent().unwrap()).unwrap();
            std::fs::write(root.at(path), text).unwrap();
        }
        let backends = backends.iter().map(|backend| (*backend).to_owned()).collect();
        let args = NetArgs { name: "web".parse().unwrap(), interface: None, rate: "1mbit".to_owned() };
        let sheet = sheet(&Host::read(&root), &args, NetCls::of(Handle(0x0012_0011), backends));
        assert_eq!(sheet.handle, "0012:0011");
        sheet.commands.into_iter().flat_map(|commands| commands.lines).collect()
    }

    #[test]
    fn lines_are_those_of_the_hosts_mechanisms() {
        let route = ("/proc/net/route", "Iface Destination\neth0 00000000\n");
        let by_class = lines(&["net_cls"], &[route, ("/proc/modules", "cls_cgroup 1\n")]);
        assert!(by_class[2].ends_with("output meta cgroup 0x00120011 counter comment '\"web\"'"), "{by_class:#?}");
        assert!(by_class[4].starts_with("ip6tables -A OUTPUT -m cgroup --cgroup 0x00120011"), "{by_class:#?}");
        assert!(by_class[5].ends_with(" || tc qdisc add dev eth0 root handle 12: htb"), "{by_class:#?}");
        assert_eq!(by_class[6], "tc class replace dev eth0 parent 12: classid 12:11 htb rate 1mbit");
        assert_eq!(by_class[7], "tc filter replace dev eth0 parent 12: protocol all pref 1 handle 1 cgroup");
        let without = lines(&["net_cls", "bpf"], &[]);
        assert!(without[5].contains("dev lo "), "{without:#?}");
        assert!(without[9].ends_with("shape meta cgroup 0x00120011 meta priority set 12:11"), "{without:#?}");
        let by_mark = lines(&["bpf"], &[route]);
        assert!(by_mark[2].contains("meta mark 0x00120011") && by_mark[3].contains("-m mark --mark"), "{by_mark:#?}");
        assert_eq!(by_mark.len(), 7, "HTB needs no filter");
    }
}
