-- What the published figures are figures of, from the raw files alone. The hours are read once, month by month and
-- tariff period; the tables below have a row per customer, customer-month, contact or price row.
create table hour_sums as
select h.customer_id, c.month, c.period,
       sum(greatest(h.consumption_elec_kwh, 0)) as kwh,
       sum(greatest(h.consumption_gas_m3, 0)) as m3,
       count_if(h.consumption_elec_kwh < 0) as elec_negative,
       count_if(h.consumption_gas_m3 < 0) as gas_negative,
       count_if(h.consumption_elec_kwh < 0 and h.consumption_gas_m3 < 0) as both_negative
from hours h join clock c on h.timestamp = c.hour
group by all;

create table monthly as
select customer_id, month,
       sum(kwh) as kwh, sum(m3) as m3,
       coalesce(sum(kwh) filter (period = 1), 0) as kwh1,
       coalesce(sum(kwh) filter (period = 2), 0) as kwh2,
       coalesce(sum(kwh) filter (period = 3), 0) as kwh3,
       sum(elec_negative) as elec_negative, sum(gas_negative) as gas_negative, sum(both_negative) as both_negative
from hour_sums group by all;

create table listed as
select customer_id, strftime(pricing_date, '%Y-%m') as month, pricing_date,
       columns('variable_price.*'), elec_fixed_fee_eur_month as fee, elec_fixed_cost_eur_month as fee_cost,
       nullif(gas_variable_price_eur_m3::double, 0) as gas_price, gas_fixed_revenue_eur_year as gas_fixed,
       gas_fixed_cost_eur_year as gas_fixed_cost
from prices where customer_id is not null;

create table priced as
select customer_id,
       avg(nullif(variable_price_tier1_eur_kwh, 0)) as price1,
       avg(nullif(variable_price_tier2_eur_kwh, 0)) as price2,
       avg(nullif(variable_price_tier3_eur_kwh, 0)) as price3,
       avg(fee) as fee, avg(fee_cost) as fee_cost, avg(gas_price) as gas_price, avg(gas_fixed) as gas_fixed,
       avg(gas_fixed_cost) as gas_fixed_cost,
       count(*) as price_rows,
       count(nullif(variable_price_tier1_eur_kwh, 0)) as price_count,
       coalesce(arg_min(variable_price_tier1_eur_kwh, pricing_date) = 0, false) as first_price_zero,
       arg_min(variable_price_tier1_eur_kwh, pricing_date) filter (variable_price_tier1_eur_kwh > 0) as first_price,
       arg_max(variable_price_tier1_eur_kwh, pricing_date) filter (variable_price_tier1_eur_kwh > 0) as last_price,
       stddev_samp(nullif(variable_price_tier1_eur_kwh, 0)) as volatility
from listed group by customer_id;

create table province as
select province, avg(elec_var_cost_eur_kwh) as elec_cost, avg(gas_var_cost_eur_m3) as gas_cost,
       arg_max(elec_var_cost_eur_kwh, month) / arg_min(elec_var_cost_eur_kwh, month) - 1 as elec_cost_trend
from costs where month in (select distinct month from clock) group by province;

-- A missing price is the customer's mean here: two in a thousand months, where the ETL takes the neighbouring month's.
create table months as
select m.*,
       m.kwh1 * coalesce(nullif(l.variable_price_tier1_eur_kwh, 0), p.price1, 0)
       + m.kwh2 * coalesce(nullif(l.variable_price_tier2_eur_kwh, 0), p.price2, 0)
       + m.kwh3 * coalesce(nullif(l.variable_price_tier3_eur_kwh, 0), p.price3, 0)
       + coalesce(p.fee, 0) as elec_revenue,
       elec_revenue - m.kwh * (c.elec_var_cost_eur_kwh + c.peaje_elec_eur_kwh) - coalesce(p.fee_cost, 0)
       as elec_margin,
       coalesce(m.m3 * p.gas_price, 0) + coalesce(p.gas_fixed, 0) / 12 as gas_revenue,
       gas_revenue - m.m3 * c.gas_var_cost_eur_m3 - coalesce(p.gas_fixed_cost, 0) / 12 as gas_margin
from monthly m
join attributes a using (customer_id)
join costs c on c.province = a.province_code and c.month = m.month
left join priced p using (customer_id)
left join listed l on l.customer_id = m.customer_id and l.month = m.month;

create table months_by_customer as
select customer_id, avg(kwh) as kwh, stddev_samp(kwh) as kwh_sd, avg(m3) as m3,
       count_if(kwh = 0) as months_without_elec, count_if(m3 > 0) as months_with_gas,
       sum(elec_negative) as elec_negative, sum(gas_negative) as gas_negative, sum(both_negative) as both_negative,
       median(elec_margin) as elec_margin, avg(elec_margin) as elec_margin_mean,
       avg(elec_margin + gas_margin) as total_margin, stddev_samp(elec_margin + gas_margin) as margin_sd,
       stddev_samp(elec_revenue + gas_revenue) as bill_sd
from months group by customer_id;

create table customers as
select a.*, y.churn, m.* exclude (customer_id), p.* exclude (customer_id), v.* exclude (province),
       c.last_product_change_date is null as never_changed,
       date_diff('day', $as_of, c.next_renewal_date) as renewal_days,
       date_diff('day', $as_of, c.next_renewal_date) / 30 as renewal,
       date_diff('day', c.customer_first_activation_date, $as_of) / 30 as tenure,
       date_diff('day', c.last_product_change_date, $as_of) / 30 as since_change,
       m.kwh > 0 and m.m3 > 0 as dual, m.kwh = 0 and m.m3 > 0 as gas_only,
       if(p.price_count > 1, p.last_price / p.first_price - 1, null) as trend,
       p.last_price - v.elec_cost as spread,
       12 - coalesce(p.price_rows, 0) as missing_price_rows,
       m.total_margin + if(m.m3 > 0, 0, 5.3114) as margin_as_published,
       t.customer_id is not null as contact, t.intent, t.sentiment,
       date_diff('day', t.date, c.next_renewal_date) as contact_to_renewal,
       t.length, t.terse
from attributes a
join contracts c using (customer_id)
left join labels y using (customer_id)
left join contacts t using (customer_id)
left join months_by_customer m using (customer_id)
left join priced p using (customer_id)
left join province v on v.province = a.province_code;
