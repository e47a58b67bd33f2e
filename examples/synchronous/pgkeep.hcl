# No acknowledged commit is lost: the server waits until this receiver has its WAL on disk.

repository "main" {
  path = "/srv/pgkeep"
}

server "ledger" {
  conninfo     = "host=10.0.1.1 user=pgkeep dbname=postgres sslmode=verify-full"
  repositories = [repository.main]

  slot {
    on_lost = "fail" # a lost slot is a matter for people here
  }

  receiver {
    synchronous = true
    spool       = "/var/lib/pgkeep/spool" # flushed here before the server is told
  }
}

schedule "nightly" {
  servers = [server.ledger]
  backup  = "full"
  cron    = "0 1 * * *"
}

retention "standard" {
  servers            = [server.ledger]
  recovery_window    = "30d"
  minimum_redundancy = 2
  enforce            = "approve" # every deletion waits for a name
}
