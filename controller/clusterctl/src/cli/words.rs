//! What all commands have in common: they parse, and they explain themselves.

use super::Cli;
use clap::{CommandFactory, Parser};

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_and_flag_says_what_it_does_and_every_command_shows_an_example() {
    let mut cli = Cli::command();
    cli.build();
    for command in cli.get_subcommands().filter(|command| command.get_name() != "help") {
        let name = command.get_name();
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(after.contains("Example") && after.contains("clusterctl "), "{name} has no example");
        assert!(command.get_about().is_some(), "{name} does not say what it does");
        for argument in command.get_arguments().filter(|argument| argument.get_id() != "help") {
            assert!(argument.get_help().is_some(), "{name}: {} does not say what it does", argument.get_id());
        }
    }
}

#[test]
fn what_hands_know_from_kubectl_parses() {
    for line in [
        "get pods,vm -A -l a=b --field-selector spec.host=h -o wide",
        "get nodes -o jsonpath={.items[*].metadata.name} --no-headers",
        "get vm -o custom-columns=NAME:.metadata.name --sort-by=.metadata.name",
        "get -R -f manifests -o name",
        "get vm web -w",
        "apply -f - --dry-run=server",
        "create -f a.yaml -f b.yaml",
        "delete vm web --ignore-not-found",
        "describe node/node01",
        "events --for node/node01 -w",
        "explain vm.spec --recursive",
        "api-resources --namespaced=false -o name",
        "patch vm web --type merge -p {}",
        "label vm web a=b c- --overwrite",
        "annotate vm --all a=b",
        "wait testrun/fresh-smoke --for=condition=Complete --timeout=20m",
        "exec node04 -- uname -a",
        "logs node01 -f --tail=20",
        "ssh node04 -- uname -a",
        "ssh root@node04",
        "port-forward web 8080:80 :22",
        "port-forward --stdio web 22",
        "-n tenant get vm",
        "get vm -n tenant",
        "auth can-i delete vm/web -n acme --as jane --as-group dev",
        "auth can-i create vm --subresource exec -q",
        "auth can-i get /metrics",
        "auth can-i * * -A",
        "auth can-i --list --no-headers -o json",
        "auth whoami -o json",
        "net matrix -A -o wide --no-headers",
        "net matrix --from a --to b --network net --protocol udp --port 53 --port 54",
        "net matrix --probe --max-tries 9 --wait 2",
        "net trace vm/a b --port 80 -o yaml",
        "net capture vm/a -w a.pcapng --count 9 --duration 1m30s --snaplen 96",
        "net capture port/a --write -",
        "create token robot --duration=24h --audience=vault -o json",
        "get vm --as jane",
        "completion bash",
        "kubeconfig",
        "version --client",
    ] {
        let words = std::iter::once("clusterctl").chain(line.split(' '));
        if let Err(error) = Cli::try_parse_from(words) {
            panic!("{line}: {error}");
        }
    }
    for line in [
        "get",
        "get vm -o xml",
        "label",
        "port-forward web",
        "exec node04",
        "patch vm web",
        "auth can-i get",
        "create token",
        "net",
        "net matrix --wait 3",
        "net matrix --port 0",
        "net trace a",
        "net capture",
        "net capture a --count 0",
        "net capture a --snaplen 0",
        "net capture a --duration 1",
    ] {
        let words = std::iter::once("clusterctl").chain(line.split(' '));
        assert!(Cli::try_parse_from(words).is_err(), "{line}");
    }
}

#[test]
fn completion_knows_every_command() {
    let mut script = Vec::new();
    clap_complete::generate(clap_complete::Shell::Bash, &mut Cli::command(), "clusterctl", &mut script);
    let script = String::from_utf8(script).expect("text");
    for command in Cli::command().get_subcommands() {
        assert!(script.contains(&format!("clusterctl,{}", command.get_name())), "{}", command.get_name());
    }
}
