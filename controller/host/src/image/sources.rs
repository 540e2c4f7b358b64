//! Finds the Debian mirror that this machine is configured to use.
//!
//! A user behind a proxy or with a mirror of their own has told apt so already; asking again would be one more thing to
//! get wrong. Both of apt's formats are read. Only the address, the components and the key are taken: the suite is the
//! recipe's.

use std::fs;
use std::path::{Path, PathBuf};

/// Where Debian's archive keys lie.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const DEFAULT_MAIN: &str = "http://deb.debian.org/debian";
const DEFAULT_SECURITY: &str = "http://deb.debian.org/debian-security";

/// An entry of apt's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    uri: String,
    suite: String,
    components: Vec<String>,
}

/// The mirrors for one suite, as text for a `sources.list`.
pub(super) fn render_sources(suite: &str, host_files: &[(PathBuf, String)]) -> String {
    let entries: Vec<Entry> = host_files
        .iter()
        .flat_map(|(path, text)| match path.extension().is_some_and(|e| e == "sources") {
            true => parse_deb822(text),
            false => parse_one_line(text),
        })
        .filter(|entry| entry.components.iter().any(|component| component == "main"))
        .collect();
    let of = |security: bool| {
        entries.iter().find(|entry| is_debian(entry) && is_security(entry) == security).map(|entry| entry.uri.clone())
    };
    let main = of(false).unwrap_or_else(|| DEFAULT_MAIN.to_owned());
    let line = |uri: &str, suite: &str| format!("deb [signed-by={KEYRING}] {uri} {suite} main\n");
    let mut text = line(&main, suite);
    // Rolling suites have neither updates nor security archives.
    if !matches!(suite, "sid" | "unstable" | "testing" | "experimental") {
        let security = of(true).unwrap_or_else(|| DEFAULT_SECURITY.to_owned());
        text.push_str(&line(&main, &format!("{suite}-updates")));
        text.push_str(&line(&security, &format!("{suite}-security")));
    }
    text
}

/// Reads what apt reads.
pub(super) fn host_files(etc_apt: &Path) -> Vec<(PathBuf, String)> {
    let mut paths = vec![etc_apt.join("sources.list")];
    if let Ok(listed) = fs::read_dir(etc_apt.join("sources.list.d")) {
        let mut parts: Vec<PathBuf> = listed.flatten().map(|entry| entry.path()).collect();
        parts.retain(|path| path.extension().is_some_and(|e| e == "sources" || e == "list"));
        parts.sort();
        paths.extend(parts);
    }
    paths.into_iter().filter_map(|path| fs::read_to_string(&path).ok().map(|text| (path, text))).collect()
}

/// Third parties use suites of their own names, so Debian is known by the path that its mirrors share.
fn is_debian(entry: &Entry) -> bool {
    let path = entry.uri.trim_end_matches('/');
    path.ends_with("/debian") || path.ends_with("/debian-security") || path.contains("snapshot.debian.org/")
}

fn is_security(entry: &Entry) -> bool {
    entry.suite.ends_with("-security") || entry.suite.ends_with("/updates")
}

fn parse_one_line(text: &str) -> Vec<Entry> {
    text.lines()
        .filter_map(|line| line.split('#').next()?.trim().strip_prefix("deb "))
        .filter_map(|rest| {
            let rest = rest.trim();
            let rest = match rest.strip_prefix('[') {
                Some(options) => options.split_once(']')?.1,
                None => rest,
            };
            let mut words = rest.split_whitespace().map(str::to_owned);
            Some(Entry { uri: words.next()?, suite: words.next()?, components: words.collect() })
        })
        .collect()
}

fn parse_deb822(text: &str) -> Vec<Entry> {
    text.split("\n\n")
        .flat_map(|stanza| {
            let field = |name: &str| -> Vec<String> {
                stanza
                    .lines()
                    .filter_map(|line| line.split_once(':'))
                    .find(|(key, _)| key.eq_ignore_ascii_case(name))
                    .map(|(_, value)| value.split_whitespace().map(str::to_owned).collect())
                    .unwrap_or_default()
            };
            let disabled = field("Enabled").first().is_some_and(|word| word == "no");
            let binary = field("Types").iter().any(|word| word == "deb");
            let components = field("Components");
            let suites = field("Suites");
            field("URIs")
                .into_iter()
                .filter(|_| binary && !disabled)
                .flat_map(|uri| suites.iter().map(move |suite| (uri.clone(), suite.clone())).collect::<Vec<_>>())
                .map(|(uri, suite)| Entry { uri, suite, components: components.clone() })
                .collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(name: &str, text: &str) -> String {
        render_sources("bookworm", &[(PathBuf::from(name), text.to_owned())])
    }

    #[test]
    fn without_any_configuration_the_default_mirror_is_used() {
        insta::assert_snapshot!(render("sources.list", ""), @r"
        deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main
        deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm-updates main
        deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian-security bookworm-security main
        ");
    }

    #[test]
    fn a_mirror_of_the_users_own_is_kept_in_both_formats() {
        let one_line = "# old\ndeb [arch=amd64] http://mirror.example/debian trixie main contrib # here\n";
        let deb822 = "# c\nTypes: deb deb-src\nURIs: http://mirror.example/debian\nSuites: trixie trixie-updates\nComponents: main\n";
        for text in [render("a.list", one_line), render("a.sources", deb822)] {
            assert!(text.contains("http://mirror.example/debian bookworm main\n"), "{text}");
            assert!(text.contains("http://deb.debian.org/debian-security bookworm-security"), "{text}");
        }
    }

    #[test]
    fn third_parties_and_disabled_stanzas_are_left_out() {
        let text = "Types: deb\nURIs: https://deb.example/node\nSuites: nodistro\nComponents: main\n\nEnabled: no\nTypes: deb\nURIs: http://off.example/debian\nSuites: bookworm\nComponents: main\n";
        let rendered = render("x.sources", text);
        assert!(!rendered.contains("example"), "{rendered}");
    }

    #[test]
    fn a_rolling_suite_has_one_archive() {
        assert_eq!(render_sources("sid", &[]).lines().count(), 1);
    }
}
