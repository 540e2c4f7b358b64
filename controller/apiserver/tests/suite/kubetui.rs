//! kubetui, a terminal UI that people use, at a real terminal (tmux's) and over TLS.
//!
//! A key is pressed only when what it acts on is on the screen: what is typed ahead would reach whatever has the focus.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde_json::json;
use tokio::process::Command;
use tokio::time::{Duration, Instant, sleep};

use crate::kubectl::Kubectl;
use crate::lab::{Lab, WIDGETS};
use crate::tls::serve;

/// A debug build of another's program on a busy machine: longest wait for anything to appear.
const SOON: Duration = Duration::from_secs(40);
/// Between two looks at the screen, which nothing announces.
const LOOK: Duration = Duration::from_millis(50);

/// A terminal in which kubetui runs. It ends with this.
struct Screen {
    tmux: PathBuf,
    socket: PathBuf,
    home: PathBuf,
}

impl Screen {
    /// Opens one; the kubeconfig is in `home`.
    async fn open(home: &Path) -> Result<Screen> {
        let kubetui = testkit::tool("kubetui", "KUBETUI")?;
        let screen =
            Screen { tmux: testkit::tool("tmux", "TMUX_PROGRAM")?, socket: home.join("tmux"), home: home.to_owned() };
        let config = home.join("kubeconfig");
        let command = format!("exec {} --clipboard osc52 --kubeconfig {}", kubetui.display(), config.display());
        screen.ask(&["new-session", "-d", "-x", "150", "-y", "50", &command]).await?;
        Ok(screen)
    }

    fn command(&self) -> std::process::Command {
        let mut command = std::process::Command::new(&self.tmux);
        command.args(["-u", "-f", "/dev/null", "-S"]).arg(&self.socket).current_dir(&self.home).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", &self.home);
        command.env("LANG", "C.UTF-8").env("TERM", "xterm-256color").env("SHELL", "/bin/sh");
        command
    }

    async fn ask(&self, words: &[&str]) -> Result<String> {
        let output = Command::from(self.command()).args(words).kill_on_drop(true).output().await?;
        ensure!(output.status.success(), "tmux {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Presses one key, or types a word.
    async fn press(&self, keys: &str) -> Result<()> {
        self.ask(&["send-keys", keys]).await.map(drop)
    }

    /// Waits until all of these are on the screen, one of the lines holding all the words of each.
    async fn shows(&self, lines: &[&str]) -> Result<()> {
        let end = Instant::now() + SOON;
        loop {
            let screen = self.ask(&["capture-pane", "-p"]).await?;
            let holds = |line: &str, wanted: &str| wanted.split(' ').all(|word| line.contains(word));
            if lines.iter().all(|wanted| screen.lines().any(|line| holds(line, wanted))) {
                return Ok(());
            }
            ensure!(Instant::now() < end, "{lines:?} did not appear:\n{screen}");
            sleep(LOOK).await;
        }
    }

    /// Waits until kubetui, and with it the terminal, is gone.
    async fn ended(&self) -> Result<()> {
        let end = Instant::now() + SOON;
        while self.ask(&["has-session"]).await.is_ok() {
            ensure!(Instant::now() < end, "kubetui does not end");
            sleep(LOOK).await;
        }
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // It is gone already when all went well.
        let _ = self.command().arg("kill-server").output();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kubetui_shows_what_somebody_made() -> Result<()> {
    let lab = Lab::new().await?;
    let dir = tempfile::tempdir()?;
    let served = serve(&lab, dir.path()).await?;
    // For the kubeconfig.
    Kubectl::new(dir.path(), &served)?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "tenant-on-screen"}});
    lab.call("POST", "/api/v1/namespaces", &namespace).await?.expect(201)?;
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "greeting"}, "data": {"a": "1"}});
    lab.call("POST", "/api/v1/namespaces/default/configmaps", &config).await?.expect(201)?;
    lab.widget("on-screen", json!({"size": 41})).await?;

    // It begins with pods, of which there is no kind, and goes on.
    let screen = Screen::open(dir.path()).await?;
    screen.shows(&["6: API", "could not find the requested resource"]).await?;
    screen.press("2").await?;
    screen.shows(&["+ Config", "ConfigMap greeting 1"]).await?;

    // A kind that was made at run time, found by discovery, as a table that is kept up to date.
    screen.press("6").await?;
    screen.shows(&["+ API"]).await?;
    screen.press("f").await?;
    screen.shows(&["+ Filter", "widgets.example.dev"]).await?;
    screen.press("widgets").await?;
    screen.shows(&["[1/1]", "widgets.example.dev (*v1)"]).await?;
    screen.press("Enter").await?;
    screen.shows(&["Selected", "│[0/0]"]).await?;
    screen.press("Escape").await?;
    screen.shows(&["NAME SIZE", "on-screen 41"]).await?;
    lab.merge(&format!("{WIDGETS}/on-screen"), json!({"spec": {"size": 97}})).await?.expect(200)?;
    screen.shows(&["on-screen 97"]).await?;

    // One object as it is stored.
    screen.press("7").await?;
    screen.shows(&["+ Yaml"]).await?;
    screen.press("f").await?;
    screen.shows(&["+ Kind", "widgets.example.dev"]).await?;
    screen.press("widgets").await?;
    screen.shows(&["[1/1]", "widgets.example.dev (*v1)"]).await?;
    screen.press("Enter").await?;
    screen.shows(&["+ Name", "on-screen"]).await?;
    screen.press("Enter").await?;
    screen.shows(&["kind: Widget", "size: 97"]).await?;

    // The tenants.
    screen.press("n").await?;
    screen.shows(&["+ Namespace", "tenant-on-screen"]).await?;
    screen.press("tenant-on").await?;
    screen.shows(&["│[1/1]"]).await?;
    screen.press("Enter").await?;
    screen.shows(&["ns: tenant-on-screen"]).await?;
    screen.press("q").await?;
    screen.ended().await?;
    served.stop().await?;
    lab.end().await
}
