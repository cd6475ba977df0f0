//! The release: one static binary, as a tarball and as a Debian package, with the unit, the manual and completions.
//!
//! | file | owns |
//! |---|---|
//! | `guest` | a clean Debian with systemd, in namespaces of this machine |
//! | `check` | what is tried in it |

mod check;
mod guest;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::shell::{cargo, output_of, run, say};
use crate::{build, setup};

/// The shells, each with the file of its completion script.
const COMPLETIONS: [(&str, &str); 3] = [("bash", "netd.bash"), ("zsh", "_netd"), ("fish", "netd.fish")];

/// Builds the release into target/dist. `checks` says whether it is installed in a clean Debian and tried.
pub(crate) fn dist(checks: bool, debug: bool) -> Result<()> {
    setup::toolchain()?;
    setup::dist_tools()?;
    let parts = Parts::build(debug)?;
    let folder = build::target().join("dist");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let tarball = parts.tarball(&folder)?;
    let package = parts.package(&folder, "1")?;
    for made in [&tarball, &package] {
        say(&format!("made {}", made.display()));
    }
    if checks {
        setup::guest_system_tools()?;
        let newer = parts.package(&parts.folder, "2")?;
        check::check(&[&package, &newer], &tarball)?;
    }
    Ok(())
}

/// What goes into the tarball and the package.
struct Parts {
    binary: PathBuf,
    /// The manual and the completions.
    folder: PathBuf,
    triple: String,
    version: String,
    debug: bool,
}

impl Parts {
    /// Builds all of them.
    fn build(debug: bool) -> Result<Self> {
        let triple = build::triple()?;
        let mut command = cargo();
        command.args(["build", "--package", "netd", "--target", &triple]);
        // With a target, the flags do not apply to build scripts and procedural macros.
        command.arg("--config").arg(format!("target.{triple}.rustflags=[\"-Ctarget-feature=+crt-static\"]"));
        if !debug {
            command.arg("--release");
        }
        // They would replace the flags above.
        run(command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS"))?;
        let built = build::target().join(&triple).join(if debug { "debug" } else { "release" });
        let binary = built.join("netd");
        let libraries = output_of(Command::new("ldd").arg(&binary)).unwrap_or_default();
        ensure!(!libraries.contains("=>"), "{} is not static:\n{libraries}", binary.display());
        let version = output_of(Command::new(&binary).arg("--version")).context("netd does not start")?;
        let version = version.trim().trim_start_matches("netd ").to_owned();
        let changes = fs::read_to_string(build::root().join("netd/packaging/changelog"))?;
        if !changes.starts_with(&format!("netd ({version}-")) {
            bail!("netd/packaging/changelog does not begin with version {version}");
        }
        let parts = Self { folder: built.join("dist"), binary, triple, version, debug };
        parts.write_shell_files()?;
        Ok(parts)
    }

    /// Writes the manual and the completions.
    fn write_shell_files(&self) -> Result<()> {
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder).with_context(|| format!("empty {}", self.folder.display()))?;
        }
        let completions = self.folder.join("completions");
        fs::create_dir_all(&completions).with_context(|| format!("create {}", completions.display()))?;
        let man = self.folder.join("man");
        run(Command::new(&self.binary).args(["man", "--dir"]).arg(&man))?;
        // As Debian asks for. cargo-deb compresses no file of the target folder.
        run(Command::new("gzip").args(["--best", "--no-name", "--recursive"]).arg(&man))?;
        for (shell, file) in COMPLETIONS {
            let script = output_of(Command::new(&self.binary).args(["completions", shell]))
                .with_context(|| format!("netd makes no completions for {shell}"))?;
            fs::write(completions.join(file), script).with_context(|| format!("write {file}"))?;
        }
        Ok(())
    }

    /// Makes the Debian package with this revision; returns its path.
    fn package(&self, folder: &Path, revision: &str) -> Result<PathBuf> {
        let mut command = Command::new(setup::cargo_deb()?);
        command.args(["--quiet", "--no-build", "--no-strip", "--no-dbgsym", "--package", "netd"]);
        command.args(["--target", &self.triple, "--deb-revision", revision]);
        if self.debug {
            command.args(["--profile", "dev", "--fast"]);
        }
        let manifest = build::root().join("netd/Cargo.toml");
        command.arg("--manifest-path").arg(manifest).arg("--output").arg(folder);
        // It prints the path.
        run(command.stdout(Stdio::null()))?;
        let suffix = format!("_{}-{revision}_", self.version);
        let made = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
        made.into_iter()
            .find(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with("netd") && name.contains(&suffix) && name.ends_with(".deb")
            })
            .context("cargo-deb made no package")
    }

    /// Makes the tarball, which is unpacked in /usr/local; returns its path.
    fn tarball(&self, folder: &Path) -> Result<PathBuf> {
        let name = format!("netd-{}-{}", self.version, self.triple);
        let tree = self.folder.join(&name);
        let root = build::root();
        let (man, completions) = (self.folder.join("man"), self.folder.join("completions"));
        let files = [
            (self.binary.clone(), "bin/netd", 0o755),
            (completions.join("netd.bash"), "share/bash-completion/completions/netd", 0o644),
            (completions.join("_netd"), "share/zsh/site-functions/_netd", 0o644),
            (completions.join("netd.fish"), "share/fish/vendor_completions.d/netd.fish", 0o644),
            (root.join("LICENSE-APACHE"), "share/doc/netd/LICENSE-APACHE", 0o644),
            (root.join("LICENSE-MIT"), "share/doc/netd/LICENSE-MIT", 0o644),
            (root.join("README.md"), "share/doc/netd/README.md", 0o644),
        ];
        for (from, to, mode) in files {
            place(
                &fs::read(&from).with_context(|| format!("read {}", from.display()))?,
                &tree.join(to),
                mode,
            )?;
        }
        for page in fs::read_dir(&man)?.flatten() {
            let to = tree.join("share/man/man1").join(page.file_name());
            place(&fs::read(page.path())?, &to, 0o644)?;
        }
        let unit = fs::read_to_string(root.join("netd/packaging/netd.service"))?;
        let unit = unit.replace("/usr/bin/netd", "/usr/local/bin/netd");
        place(unit.as_bytes(), &tree.join("lib/systemd/system/netd.service"), 0o644)?;
        let tarball = folder.join(format!("{name}.tar.gz"));
        run(Command::new("tar")
            .args(["--create", "--gzip", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"])
            .arg("--directory")
            .arg(&self.folder)
            .arg("--file")
            .arg(&tarball)
            .arg(&name))?;
        Ok(tarball)
    }
}

/// Writes a file with these rights, and the folders above it, whatever the umask is.
fn place(content: &[u8], path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let what = || format!("write {}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(what)?;
    }
    fs::write(path, content).with_context(what)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).with_context(what)
}
