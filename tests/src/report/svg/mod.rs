//! Tables as pictures: small SVG files without a background, for light and dark pages, with real text.

mod bars;
mod ink;
mod lines;
mod paper;
mod scale;

pub use bars::bars;
pub use lines::lines;
pub use scale::Scale;
