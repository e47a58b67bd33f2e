# A recovery is inert until it is asked for: pgkeep plan --recover=before_drop, pgkeep recover before_drop.

repository "main" {
  path = "/srv/pgkeep"
}

server "orders" {
  conninfo     = "host=10.0.1.1 user=pgkeep dbname=postgres sslmode=verify-full"
  repositories = [repository.main]
}

retention "standard" {
  servers         = [server.orders]
  recovery_window = "7d"
}

recovery "before_drop" {
  server = server.orders

  target {
    time   = "2026-02-10T21:16:17Z" # with its offset: a time without one has two readings and is refused
    action = "pause"                # look first, then promote
  }

  destination {
    path        = "/var/lib/postgresql/15/restore"
    owner       = "postgres"
    port        = 5499
    tablespaces = { fast = "/mnt/nvme/fast" }
  }
}
