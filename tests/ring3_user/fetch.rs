//! Images from registries, as far as a host without one can tell.

use crate::support::berth::Berth;
use crate::support::host::Suite;
use crate::support::ring::Test;

pub const TRIALS: &[Test] = &[("images_are_fetched_as_a_user_of_their_own", images_are_fetched_as_a_user_of_their_own)];

fn images_are_fetched_as_a_user_of_their_own(suite: Suite) {
    let host = Berth::shared(suite);
    let user = host.ok("getent passwd berth-pull");
    assert!(user.contains("nologin"), "{user}");
    let said = host.ok("! berthctl fetch docker://127.0.0.1:1/a /tmp/fetched 2>&1");
    // Which of the two depends on whether the host has ca-certificates.
    let reasons = ["cannot reach https://127.0.0.1:1: Connection refused", "install ca-certificates"];
    assert!(reasons.iter().any(|reason| said.contains(reason)), "{said}");
    // It was given the directory, and the next try goes on in it.
    assert_eq!(host.ok("stat -c '%U:%G %a' /tmp/fetched").trim(), "berth-pull:berth-pull 700");
}
