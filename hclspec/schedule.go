package hclspec

import "time"

func (l *loader) buildSchedules() []Schedule {
	var out []Schedule
	schema := scheduleBlock()
	for _, b := range l.sorted("schedule") {
		d := l.decode(&schema, b.Body, b.DefRange, nil)
		s := Schedule{
			Address: "schedule." + b.Labels[0], Name: b.Labels[0], Servers: l.named(l.servers, d, "servers"), Backup: text0(d, "backup"),
			Cron: text0(d, "cron"), Timezone: text0(d, "timezone"), IfMissed: text0(d, "if_missed"),
			StartWithin: get[time.Duration](d, "start_within"), Where: d.where(),
		}
		if !d.broken {
			out = append(out, s)
		}
	}
	return out
}
