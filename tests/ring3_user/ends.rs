//! How programs end: exact exit statuses, restarts, stops.

use crate::support::berth::Berth;
use crate::support::host::Suite;
use crate::support::ring::Test;

pub const TRIALS: &[Test] = &[("exit_42_is_42", exit_42_is_42)];

fn exit_42_is_42(suite: Suite) {
    let host = Berth::shared(suite);
    host.drop_spec("exit42", "command = \"exit 42\"\n[service]\nrestart = \"no\"\n");
    let state = host.wait_state("exit42", "failed");
    assert_eq!(host.property("exit42", "ExecMainCode"), "1");
    assert_eq!(host.property("exit42", "ExecMainStatus"), "42");
    assert_eq!(host.property("exit42", "Result"), "exit-code");
    assert_eq!(state["exit"], serde_json::json!({"exited": 42}));
    assert_eq!(state["result"], "exit-code");
    assert_eq!(state["error"], serde_json::Value::Null);
}
