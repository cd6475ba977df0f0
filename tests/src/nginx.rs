//! nginx in a container.

use std::path::{Path, PathBuf};

use crate::lab::Lab;
use crate::netns::Process;

/// Writes a configuration for nginx in the foreground, with all files in `folder`, and with these directives at its
/// top, in its `events` block and in its `server` block. Returns its path.
pub fn configure(folder: &Path, top: &str, events: &str, server: &str) -> PathBuf {
    let config = folder.join("nginx.conf");
    let place = folder.display();
    let text = format!(
        "daemon off; user root; pid {place}/pid; error_log stderr crit; {top} events {{ {events} }} http {{ access_log off; \
         client_body_temp_path {place}/t; proxy_temp_path {place}/t; fastcgi_temp_path {place}/t; \
         uwsgi_temp_path {place}/t; scgi_temp_path {place}/t; server {{ root {place}; {server} }} }}"
    );
    std::fs::write(&config, text).expect("write nginx's configuration");
    config
}

/// Starts nginx in a container with these directives in its `server` block; it serves the files in `folder`.
pub fn start(lab: &Lab, container: &str, folder: &Path, server: &str) -> Process {
    let config = configure(folder, "", "", server);
    Process::new(&mut lab.command_in(container, &format!("exec nginx -c {}", config.display())))
}
