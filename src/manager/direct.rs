//! berthd as the service manager, where there is no systemd.
