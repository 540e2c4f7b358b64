//! Builds one image from a recipe in JSON on standard input: `build-image CACHE_DIR < recipe.json`.
//!
//! For trying out a recipe, or a change of the lean guest, without a controller.

use std::io::{self, Read};

use host::image::{Builder, Options, Recipe};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cache = std::env::args_os().nth(1).ok_or("usage: build-image CACHE_DIR < recipe.json")?;
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    let recipe: Recipe = serde_json::from_str(&text)?;
    let builder = Builder::open(Options::new(cache)).await?;
    let built = builder.build(&recipe, |progress| eprintln!("{:3} % {}", progress.percent, progress.step)).await?;
    println!("{built:#?}");
    Ok(())
}
