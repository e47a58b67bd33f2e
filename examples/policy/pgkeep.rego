# What a plan may not do here, however well it was meant. Judge a saved plan (docs/plan.schema.json):
#
#   pgkeep plan --out=plan.json
#   opa eval --data pgkeep.rego --input plan.json --format pretty --fail-defined 'data.pgkeep.deny[_]'
#   conftest test --policy . --namespace pgkeep plan.json
package pgkeep

most_deleted := 3

least_redundancy := 2

deleted contains id if {
	some step in input.steps
	step.action == "prune"
	some id in step.parameters.backups
}

deny contains message if {
	count(deleted) > most_deleted
	message := sprintf("the plan deletes %d backups, and %d at once are allowed: %s", [count(deleted), most_deleted, concat(", ", sort(deleted))])
}

deny contains message if {
	some step in input.steps
	step.action == "drop-slot"
	message := sprintf("%s drops slot %s: a slot is dropped by a person, with pgkeep apply on the backup machine", [step.id, step.parameters.slot])
}

deny contains message if {
	some rule in input.spec.retentions
	rule.minimum_redundancy < least_redundancy
	message := sprintf("%s keeps %d backups at least, and %d are the least here", [rule.address, rule.minimum_redundancy, least_redundancy])
}

# A server that no retention names keeps all its backups: that is for the disk to judge. One without a schedule is not.
deny contains message if {
	some server in input.spec.servers
	scheduled := {name | some schedule in input.spec.schedules; some name in schedule.servers}
	not server.name in scheduled
	message := sprintf("%s has no schedule", [server.address])
}
