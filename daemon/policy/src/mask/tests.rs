//! Forms, detectors, the scanner.

use super::Key;

mod detectors;
mod forms;
mod ordinary;
mod scanner;
mod screen;

fn key(byte: u8) -> Key {
    Key::new(&[byte; 32]).expect("is long enough")
}
