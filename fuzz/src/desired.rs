//! Files of the desired state: a bad one is refused at a place that it has, and what a file asks for may be asked for in parts.

use netd::{Desired, DesiredFile, Error};

/// Several files, separated by zero bytes.
pub fn holds(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let files: Vec<DesiredFile> = (0..)
        .zip(text.split('\0'))
        .map(|(number, text)| DesiredFile { name: number.to_string(), text: text.to_owned() })
        .collect();
    match Desired::parse(&files) {
        Ok(_desired) => {
            for file in &files {
                let alone = Desired::parse(std::slice::from_ref(file));
                assert!(alone.is_ok(), "what is accepted with others is accepted alone");
            }
        }
        Err(Error::InFile { at, .. }) => {
            let file = files.iter().find(|file| file.name == *at.file).expect("one of the files");
            let line = file.text.split('\n').nth(at.line - 1).expect("a line of the file");
            assert!((1..=line.chars().count() + 1).contains(&at.column), "{at} in {line:?}");
        }
        Err(error) => panic!("no place: {}", error.chain()),
    }
}
