//! Services: what starts and stops with a program, alone or in a tree (Twisted's `application.service` and
//! `application.internet`).
