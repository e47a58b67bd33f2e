# One block for many servers: each entry of the map becomes server.shop["eu"], server.shop["us"], and so on.

variable "clusters" {
  type = map(string)
  default = {
    eu = "10.0.1.1,10.0.1.3" # a host list: the writable one is found
    us = "10.0.2.1"
  }
}

locals {
  user = "pgkeep"
}

repository "main" {
  path = "/srv/pgkeep"
}

server "shop" {
  for_each     = var.clusters
  conninfo     = "host=${each.value} user=${local.user} dbname=postgres sslmode=verify-full"
  repositories = [repository.main]
}

schedule "nightly" {
  servers  = [server.shop] # all of them
  backup   = "full"
  cron     = "30 2 * * *"
  timezone = "Europe/Berlin"
}

retention "standard" {
  servers         = [server.shop]
  recovery_window = "14d"
  redundancy      = 2
}

output "servers" {
  value = keys(server.shop)
}
