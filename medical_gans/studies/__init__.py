"""Studies on top of the workflows that nothing imports: reader study, dose, placement of nodules."""
