# One PostgreSQL server, one repository on a local disk, a backup each night, any moment of the last week.

repository "main" {
  path = "/srv/pgkeep"
}

server "orders" {
  conninfo     = "host=10.0.1.1 user=pgkeep dbname=postgres sslmode=verify-full"
  repositories = [repository.main]
}

schedule "nightly" {
  servers = [server.orders]
  backup  = "full"
  cron    = "0 1 * * *"
}

retention "standard" {
  servers            = [server.orders]
  recovery_window    = "7d"
  minimum_redundancy = 2
}
