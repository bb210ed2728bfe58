package main

func (p *proof) healthByEach() {}
