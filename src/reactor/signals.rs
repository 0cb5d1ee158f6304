//! SIGINT and SIGTERM (placeholder).
use super::core::Core;
use std::rc::Rc;
impl Core {
    pub(super) fn install_signals(self: &Rc<Self>) {}
}
