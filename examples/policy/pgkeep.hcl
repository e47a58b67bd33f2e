# Judged by pgkeep.rego before it is applied.
variable "pgpass" {
  type        = string
  default     = "/etc/pgkeep/pgpass"
  description = "where the runner finds the passwords; never in this repository"
}

repository "main" {
  path = "/srv/pgkeep"
  host = "backup1"
}

server "orders" {
  conninfo     = "host=10.0.1.1 user=pgkeep dbname=postgres sslmode=verify-full passfile=${var.pgpass}"
  repositories = [repository.main]

  receiver {
    host = "backup1"
  }
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
  minimum_redundancy = 2
  enforce            = "approve" # what deletes backups waits for a digest that a person saw
}
