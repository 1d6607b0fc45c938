package memberlist

// services are what every part of a node uses.
type services struct {
	log   *logger
	meter *meter
	drops *drops
	life  *lifetime
	tasks *taskGroup
}

func newServices(cfg *Config, log *logger) services {
	m := &meter{cfg.MetricLabels}
	return services{log: log, meter: m, drops: &drops{m, log}, life: newLifetime(), tasks: new(taskGroup)}
}
