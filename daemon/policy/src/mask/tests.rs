//! Forms, detectors and the scanner.
mod detectors;
