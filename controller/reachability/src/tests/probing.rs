//! What is tried, by which command, and what its end proves.

use super::*;
use crate::matrix::Cell;
use crate::probe::{End, Findings, Plan, Try, command, end, judge};

fn everybody(world: &World) -> Vec<&Endpoint> {
    world.endpoints().iter().collect()
}

#[test]
fn what_would_prove_nothing_is_not_tried_and_said() {
    let mut objects = objects();
    objects.machines.retain(|machine| machine.metadata.name.as_deref() != Some("plain"));
    objects.machines[0].status.as_mut().unwrap().conditions[0].status = "False".to_owned();
    let world = World::of(objects);
    let (all, questions) = (everybody(&world), world.questions(&everybody(&world)));
    let plan = world.plan(world.matrix(&all, &all, &questions));
    let tried: std::collections::BTreeSet<(&str, &str)> =
        plan.tries.iter().map(|one| (one.cell.from.name.as_str(), one.cell.to.name.as_str())).collect();
    assert!(tried.contains(&("client", "prisoner")) && tried.contains(&("far", "client")), "{tried:?}");
    // A server that is not ready, a Port without a machine, a range that both networks have.
    for (from, to) in
        [("client", "server"), ("server", "client"), ("plain", "client"), ("client", "twin"), ("twin", "client")]
    {
        assert!(!tried.contains(&(from, to)), "{from} {to}");
    }
    let reasons: String = plan.left_out.keys().map(|why| format!("{why}\n")).collect();
    for why in [
        "VirtualMachine server is not ready",
        "no VirtualMachine uses Port plain",
        "means somebody else",
        "only tcp and echoes of icmp",
    ] {
        assert!(reasons.contains(why), "{why}: {reasons}");
    }
    let left: usize = plan.left_out.values().sum();
    assert_eq!(left + plan.tries.len(), all.len() * (all.len() - 1) * questions.len(), "none is forgotten");
}

#[test]
fn a_machine_with_a_card_on_both_networks_proves_nothing_about_either() {
    let mut objects = objects();
    objects.machines.retain(|machine| machine.metadata.name.as_deref() != Some("far"));
    objects.machines[1].spec.interfaces.push(serde_json::from_value(json!({"port": "far"})).unwrap());
    let world = World::of(objects);
    let (all, question) = (everybody(&world), [Question::from(Conversation::PING)]);
    let plan = world.plan(world.matrix(&all, &all, &question));
    let between =
        |from: &str, to: &str| plan.tries.iter().any(|one| one.cell.from.name == from && one.cell.to.name == to);
    assert!(!between("client", "far"), "{:?}", plan.left_out);
    assert!(!between("far", "plain"), "the other card leads there");
    assert!(between("plain", "far"));
}

/// The world and its plan for one pair and one question.
fn tried<T>(from: &str, to: &str, what: Conversation, see: impl FnOnce(&World, &Try<'_>) -> T) -> T {
    let world = World::of(objects());
    let (from, to) = ([world.find("t", from).unwrap()], [world.find("t", to).unwrap()]);
    let question = [Question::from(what)];
    let cells: Vec<Cell<'_>> = world.matrix(&from, &to, &question).collect();
    let Plan { tries, left_out } = world.plan(cells);
    assert_eq!(tries.len(), 1, "{left_out:?}");
    see(&world, &tries[0])
}

#[test]
fn an_end_proves_what_it_proves_and_nothing_more() {
    let no = |said: &str| End::No(said.to_owned());
    for (code, said, expected) in [
        ("0", "", End::Yes),
        ("1", "nc: can't connect to remote host (10.0.0.2): Connection refused", End::Yes),
        ("1", "nc: timed out", no("nc: timed out")),
        ("143", "", no("no answer")),
        ("1", "nc: applet not found", End::Unknown("nc: applet not found".to_owned())),
        ("137", "", End::Unknown("exit code 137: no answer".to_owned())),
    ] {
        let printed = format!("tcp/10.0.0.2/8 0 \ntcp/10.0.0.2/80 {code} {said}\n");
        tried("client", "server", Conversation::Tcp(80), |_, one| assert_eq!(end(one, &printed), expected, "{said}"));
    }
    // An echo that is refused was not answered.
    tried("server", "plain", Conversation::PING, |_, one| {
        assert_eq!(end(one, "icmp/10.0.0.4/0 1 Connection refused"), no("Connection refused"));
        assert!(matches!(end(one, ""), End::Unknown(_)));
    });
    assert!(matches!(judge("", ""), End::Unknown(_)));
}

#[test]
fn a_mismatch_names_both_ports_the_rule_and_the_hop() {
    let found = |from: &str, to: &str, ended: End| {
        tried(from, to, Conversation::Tcp(80), |world, one| {
            let mut findings = Findings::default();
            world.compare(one, &ended, &mut findings);
            findings
        })
    };
    assert_eq!(found("client", "server", End::Yes).agreed, 1);
    assert_eq!(found("plain", "server", End::No(String::new())).agreed, 1);
    assert_eq!(found("plain", "server", End::Unknown("no nc".to_owned())).unknown, ["plain → server tcp/80: no nc"]);
    let silent = found("client", "server", End::No("nc: timed out".to_owned())).mismatches;
    assert_eq!(
        silent,
        [
            "client → server tcp/80 got no answer (nc: timed out), but is open by SecurityGroup web spec.rules[0]; hop: unknown"
        ]
    );
    let loud = found("plain", "server", End::Yes).mismatches;
    assert_eq!(
        loud,
        [
            "plain → server tcp/80 was answered, but is closed by default deny in; it should have stopped at the rule in of \
          server (default deny in: of SecurityGroups web)"
        ]
    );
}

/// The script is run by a real shell, with stand-ins for busybox's programs.
#[test]
fn every_try_leaves_a_line() {
    let mut words = tried("client", "server", Conversation::Tcp(80), |_, one| command(std::slice::from_ref(one), 3));
    words.push("icmp/10.0.0.9/0".to_owned());
    let stand_in = "busybox() { case \"$1 $*\" in tail*) tail -n 1;; timeout*10.0.0.2*) echo first >&2; echo 'Connection refused' >&2; return 1;; \
                    ping*10.0.0.9*) [ \"$*\" = 'ping -q -c 1 -W 3 10.0.0.9' ];; *) return 9;; esac; }; ";
    words[3] = format!("{stand_in}{}", words[3].replace("/bin/busybox", "busybox"));
    let output = std::process::Command::new("/bin/sh").args(&words[2..]).output().unwrap();
    let mut lines: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["icmp/10.0.0.9/0 0 ", "tcp/10.0.0.2/80 1 Connection refused"]);
}
