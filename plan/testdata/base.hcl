repository "main" {
  path = "/srv/pgkeep"
}

server "orders" {
  conninfo     = "host=10.0.1.1 user=pgkeep dbname=postgres sslmode=verify-full"
  repositories = [repository.main]
}

schedule "nightly" {
  servers  = [server.orders]
  backup   = "full"
  cron     = "0 1 * * *"
  timezone = "Europe/Berlin"
}

retention "standard" {
  servers            = [server.orders]
  recovery_window    = "7d"
  redundancy         = 2
  minimum_redundancy = 1
}
