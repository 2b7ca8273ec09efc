//! Texts from requests, made fit for the database.
