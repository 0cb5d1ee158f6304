//! The example of callbacks, async functions and green threads in one program.
#![cfg(feature = "green")]
mod support;
use support::Program;

#[test]
fn each_style_waits_for_the_others_and_the_program_ends() {
    let (status, output, errors) = Program::example("async_await", &["one three", "a bc  def"]).finish();
    assert!(status.success(), "{errors}");
    assert_eq!(output, ["one=3 three=5", "a=1 bc=2 def=3", "green=5"]);
    assert_eq!(errors, "");
}
