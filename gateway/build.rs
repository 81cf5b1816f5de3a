//! Builds again when a migration is added: the compiler notices only changes of those it has seen.

fn main() {
    println!("cargo:rerun-if-changed=../migrations/gateway");
}
